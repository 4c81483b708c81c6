// kafkajs: produce, consume, groups, transactions. It brings gzip itself; the others come from
// packages, zstd and lz4 through a codec given to it here.
//
// NODE_PATH=.../node_modules node kafkajs.js BOOTSTRAP_SERVERS PREFIX

const assert = require('node:assert')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')

const [servers, prefix] = process.argv.slice(2)
const PATIENCE_MS = 40000
const kafka = new Kafka({ brokers: servers.split(','), clientId: 'stranger', logLevel: logLevel.NOTHING })
const admin = kafka.admin()

function codecs() {
  const SnappyCodec = require('kafkajs-snappy')
  CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec
  const lz4 = require('lz4js')
  const xxh32 = require('lz4js/xxh32.js')
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: async encoder => {
      const frame = Buffer.from(lz4.compress(encoder.buffer))
      // lz4js calls its blocks linked, which Kafka refuses; there is one only, so they are not.
      frame[4] |= 0x20
      frame[6] = xxh32.hash(0, frame, 4, 2) >> 8
      return frame
    },
    decompress: async buffer => Buffer.from(lz4.decompress(buffer)),
  })
  return new Promise(done => require('zstd-codec').ZstdCodec.run(zstd => {
    const simple = new zstd.Simple()
    CompressionCodecs[CompressionTypes.ZSTD] = () => ({
      compress: async encoder => Buffer.from(simple.compress(encoder.buffer)),
      decompress: async buffer => Buffer.from(simple.decompress(buffer)),
    })
    done()
  }))
}

// With keys and values that are null, and empty ones. (kafkajs cannot send a null header value.)
function records(count, tag = 'v') {
  return Array.from({ length: count }, (_, i) => ({
    key: i % 7 === 3 ? null : `key-${i}`,
    value: i % 5 === 4 ? null : i % 5 === 3 ? '' : `${tag}-${i} `.repeat(40),
    headers: i % 3 === 0 ? {} : { n: `${i}`, list: ['a', 'b'] },
  }))
}

const text = bytes => (bytes === null || bytes === undefined ? null : bytes.toString())

function plain({ key, value, headers }) {
  const of = v => (Array.isArray(v) ? v.map(text) : text(v))
  return JSON.stringify([text(key), text(value), Object.entries(headers || {}).map(([k, v]) => [k, of(v)])])
}

const same = (got, sent) => assert.deepStrictEqual(got.map(plain).sort(), sent.map(plain).sort())

async function topic(name, numPartitions) {
  const full = `${prefix}-${name}`
  await admin.createTopics({ topics: [{ topic: full, numPartitions, replicationFactor: 1 }], waitForLeaders: true })
  return full
}

const pause = ms => new Promise(done => setTimeout(done, ms))

async function until(holds, says) {
  const end = Date.now() + PATIENCE_MS
  while (!holds()) {
    assert(Date.now() < end, says())
    await pause(50)
  }
}

// A member that keeps what it reads, and commits it.
async function member(group, names, { readUncommitted = false, commit = true } = {}) {
  const client = kafka.consumer({
    groupId: `${prefix}-${group}`, readUncommitted, maxWaitTimeInMs: 200, heartbeatInterval: 500,
    sessionTimeout: 10000, rebalanceTimeout: 10000,
  })
  const me = { client, got: [], assigned: -1 }
  client.on(client.events.GROUP_JOIN, e => {
    me.assigned = Object.values(e.payload.memberAssignment).flat().length
  })
  await client.connect()
  await client.subscribe({ topics: names, fromBeginning: true })
  await client.run({
    autoCommit: false,
    eachMessage: async ({ topic, partition, message }) => {
      me.got.push(message)
      if (commit) await client.commitOffsets([{ topic, partition, offset: `${BigInt(message.offset) + 1n}` }])
    },
  })
  me.end = () => client.disconnect()
  return me
}

async function readAll(name, count, readUncommitted = false) {
  const me = await member(`reader-${Math.random()}`, [name], { readUncommitted, commit: false })
  await until(() => me.got.length >= count, () => `${me.got.length} of ${count}`)
  await pause(500)
  await me.end()
  return me.got
}

async function produce(name, messages, more = {}, how = {}) {
  const client = kafka.producer({ allowAutoTopicCreation: false, ...how })
  await client.connect()
  await client.send({ topic: name, messages, ...more })
  await client.disconnect()
}

async function compression(kind, idempotent) {
  const name = await topic(`c-${kind}-${idempotent}`, 3)
  const sent = records(300)
  await produce(name, sent, { compression: CompressionTypes[kind] }, { idempotent })
  same(await readAll(name, sent.length), sent)
}

async function group() {
  const name = await topic('g', 4)
  const first = await member('g', [name])
  const second = await member('g', [name])
  await until(() => first.assigned === 2 && second.assigned === 2, () => `${first.assigned} ${second.assigned}`)
  const sent = records(200)
  await produce(name, sent)
  await until(() => first.got.length + second.got.length >= 200, () => `${first.got.length} ${second.got.length}`)
  same([...first.got, ...second.got], sent)
  await second.end()
  await until(() => first.assigned === 4, () => first.assigned)
  await first.end()
  const later = records(50, 'later')
  await produce(name, later)
  const third = await member('g', [name])
  await until(() => third.got.length >= 50, () => third.got.length)
  await pause(500)
  same(third.got, later)
  await third.end()
  const [{ partitions }] = await admin.fetchOffsets({ groupId: `${prefix}-g`, topics: [name] })
  assert.strictEqual(partitions.reduce((sum, p) => sum + Math.max(0, Number(p.offset)), 0), 250)
}

async function transactional(name) {
  const client = kafka.producer({ transactionalId: `${prefix}-${name}`, idempotent: true, maxInFlightRequests: 1 })
  await client.connect()
  return client
}

async function transactions() {
  const name = await topic('txn', 2)
  const client = await transactional('t')
  const kept = records(40, 'kept')
  const dropped = records(40, 'dropped')
  for (const [messages, end] of [[kept.slice(0, 20), 'commit'], [dropped, 'abort'], [kept.slice(20), 'commit']]) {
    const transaction = await client.transaction()
    await transaction.send({ topic: name, messages })
    await transaction[end]()
  }
  await client.disconnect()
  same(await readAll(name, 40), kept)
  same(await readAll(name, 80, true), [...kept, ...dropped])
}

async function offsetsInTransactions() {
  const [source, sink] = [await topic('source', 2), await topic('sink', 2)]
  const sent = records(60)
  await produce(source, sent)
  const ends = await admin.fetchTopicOffsets(source)
  const client = await transactional('ctp')
  for (const end of ['abort', 'commit']) {
    const reader = await member('ctp', [source], { commit: false })
    await until(() => reader.got.length >= 60, () => reader.got.length)
    const transaction = await client.transaction()
    await transaction.send({ topic: sink, messages: reader.got.map(({ key, value, headers }) => ({ key, value, headers })) })
    await transaction.sendOffsets({
      consumerGroupId: `${prefix}-ctp`,
      topics: [{ topic: source, partitions: ends.map(({ partition, offset }) => ({ partition, offset })) }],
    })
    await transaction[end]()
    await reader.end()
  }
  await client.disconnect()
  same(await readAll(sink, 60), sent)
  const reader = await member('ctp', [source])
  await pause(3000)
  assert.strictEqual(reader.got.length, 0, 'the committed offsets did not hold')
  await reader.end()
}

async function fencing() {
  const name = await topic('fence', 1)
  const old = await transactional('f')
  const begun = await old.transaction()
  await begun.send({ topic: name, messages: records(5, 'old') })
  const young = await transactional('f')
  // Only here does kafkajs ask for a producer id.
  const transaction = await young.transaction()
  await assert.rejects(begun.commit(), error => /epoch|fenced/i.test(error.message))
  await transaction.send({ topic: name, messages: records(5, 'new') })
  await transaction.commit()
  await young.disconnect()
  await old.disconnect()
  same(await readAll(name, 5), records(5, 'new'))
}

async function administration() {
  const name = await topic('admin', 2)
  await produce(name, records(30))
  await admin.describeCluster()
  await admin.fetchTopicMetadata({ topics: [name] })
  await admin.describeConfigs({ resources: [{ type: 2, name }] })
  await admin.createPartitions({ topicPartitions: [{ topic: name, count: 3 }] })
  const { groups } = await admin.listGroups()
  assert(groups.some(g => g.groupId === `${prefix}-g`))
  await admin.describeGroups([`${prefix}-g`])
  await admin.deleteGroups([`${prefix}-g`])
  const at = await admin.fetchTopicOffsets(name)
  await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: at.find(p => p.partition === 0).offset }] })
  await admin.deleteTopics({ topics: [name] })
  assert(!(await admin.listTopics()).includes(name))
}

async function main() {
  console.log('kafkajs', require('kafkajs/package.json').version)
  await codecs()
  await admin.connect()
  let failed = false
  const feature = async (name, run, ...rest) => {
    try {
      await run(...rest)
      console.log(`${name}: ok`)
    } catch (error) {
      failed = true
      console.log(`${name}: FAILED: ${error.stack}`)
    }
  }
  for (const kind of ['None', 'GZIP', 'Snappy', 'LZ4', 'ZSTD']) {
    await feature(`compression ${kind}`, compression, kind, false)
    await feature(`compression ${kind} idempotent`, compression, kind, true)
  }
  await feature('group classic', group)
  await feature('transactions', transactions)
  await feature('offsets in transactions', offsetsInTransactions)
  await feature('fencing', fencing)
  await feature('administration', administration)
  console.log('group consumer (KIP-848): none: not in this library')
  await admin.disconnect()
  process.exit(failed ? 1 : 0)
}

main()
