"""aiokafka, pure Python: produce, consume, groups, transactions, fencing."""

import asyncio
import functools
import sys

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import ProducerFenced

from scenario import COMPRESSIONS, Features, same
from scenario import records as all_records

SERVERS, PREFIX = sys.argv[1], sys.argv[2]
PATIENCE = 40
records = functools.partial(all_records, both_null=False)


async def topic(name, partitions):
    name = f"{PREFIX}-{name}"
    admin = AIOKafkaAdminClient(bootstrap_servers=SERVERS)
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1)])
    await admin.close()
    return name


async def producer(**more):
    client = AIOKafkaProducer(bootstrap_servers=SERVERS, **more)
    await client.start()
    return client


async def consumer(*topics, group=None, **more):
    client = AIOKafkaConsumer(
        *topics, bootstrap_servers=SERVERS, auto_offset_reset="earliest", enable_auto_commit=False,
        group_id=group and f"{PREFIX}-{group}", check_crcs=True, metadata_max_age_ms=2000, **more)
    await client.start()
    return client


async def send(client, name, items):
    futures = [await client.send(name, key=key, value=value, headers=headers) for key, value, headers in items]
    await asyncio.wait_for(asyncio.gather(*futures), PATIENCE)


async def produce(name, items, **more):
    client = await producer(**more)
    await send(client, name, items)
    await client.stop()


async def take(clients, count, seconds=PATIENCE):
    loop = asyncio.get_running_loop()
    got, end = [], loop.time() + seconds
    while len(got) < count and loop.time() < end:
        for client in clients:
            for batch in (await client.getmany(timeout_ms=50)).values():
                got += [(record.key, record.value, list(record.headers)) for record in batch]
    return got


async def read_all(name, partitions, count, isolation="read_committed"):
    client = await consumer(isolation_level=isolation)
    client.assign([TopicPartition(name, p) for p in range(partitions)])
    got = await take([client], count) + await take([client], 1, seconds=0.5)
    await client.stop()
    return got


async def compression(kind, idempotent):
    name = await topic(f"c-{kind}-{idempotent}", 3)
    sent = records(300)
    await produce(name, sent, compression_type=None if kind == "none" else kind,
                  enable_idempotence=idempotent, linger_ms=20)
    same(await read_all(name, 3, len(sent)), sent)


async def assigned(members, sizes):
    got, end = [], asyncio.get_running_loop().time() + PATIENCE
    while sorted(len(member.assignment()) for member in members) != sizes:
        assert asyncio.get_running_loop().time() < end, [member.assignment() for member in members]
        got += await take(members, 1, seconds=0.1)
    return got


async def group():
    name = await topic("g", 4)
    first, second = await asyncio.gather(consumer(name, group="g"), consumer(name, group="g"))
    got = await assigned([first, second], [2, 2])
    sent = records(200)
    await produce(name, sent)
    same(got + await take([first, second], len(sent) - len(got)), sent)
    await first.commit()
    await second.commit()
    await second.stop()
    assert await assigned([first], [4]) == [], "a committed record was read again"
    await first.stop()
    later = records(50, "later")
    await produce(name, later)
    third = await consumer(name, group="g")
    same(await take([third], len(later)) + await take([third], 1, seconds=0.5), later)
    await third.commit()
    offsets = [await third.committed(TopicPartition(name, p)) for p in range(4)]
    assert sum(offset or 0 for offset in offsets) == 250, offsets
    await third.stop()


async def transactions():
    name = await topic("txn", 2)
    client = await producer(transactional_id=f"{PREFIX}-t")
    kept, dropped = records(40, "kept"), records(40, "dropped")
    for items, end in [(kept[:20], client.commit_transaction), (dropped, client.abort_transaction),
                       (kept[20:], client.commit_transaction)]:
        await client.begin_transaction()
        await send(client, name, items)
        await end()
    await client.stop()
    same(await read_all(name, 2, len(kept)), kept)
    same(await read_all(name, 2, len(kept) + len(dropped), "read_uncommitted"), kept + dropped)


async def offsets_in_transactions():
    source, sink = await topic("source", 2), await topic("sink", 2)
    sent = records(60)
    await produce(source, sent)
    client = await producer(transactional_id=f"{PREFIX}-ctp")
    for finish in [client.abort_transaction, client.commit_transaction]:
        reader = await consumer(source, group="ctp", isolation_level="read_committed")
        got = await take([reader], len(sent))
        same(got, sent)
        await client.begin_transaction()
        await send(client, sink, got)
        positions = {p: await reader.position(p) for p in reader.assignment()}
        await client.send_offsets_to_transaction(positions, f"{PREFIX}-ctp")
        await finish()
        await reader.stop()
    await client.stop()
    same(await read_all(sink, 2, len(sent)), sent)
    reader = await consumer(source, group="ctp")
    assert await take([reader], 1, seconds=3) == [], "the committed offsets did not hold"
    await reader.stop()


async def fencing():
    name = await topic("fence", 1)
    old = await producer(transactional_id=f"{PREFIX}-f")
    await old.begin_transaction()
    await send(old, name, records(5, "old"))
    new = await producer(transactional_id=f"{PREFIX}-f")
    try:
        await old.commit_transaction()
    except ProducerFenced:
        pass
    else:
        raise AssertionError("the old producer committed")
    await new.begin_transaction()
    await send(new, name, records(5, "new"))
    await new.commit_transaction()
    await new.stop()
    try:
        await old.stop()
    except ProducerFenced:
        pass
    same(await read_all(name, 1, 5), records(5, "new"))


async def main():
    features = Features()
    print("aiokafka", aiokafka.__version__, flush=True)
    for kind in COMPRESSIONS:
        await features.run_async(f"compression {kind}", compression, kind, True)
        await features.run_async(f"compression {kind} not idempotent", compression, kind, False)
    await features.run_async("group classic", group)
    await features.run_async("transactions", transactions)
    await features.run_async("offsets in transactions", offsets_in_transactions)
    await features.run_async("fencing", fencing)
    features.none("group consumer (KIP-848)", "not in this library")
    features.end()


asyncio.run(main())
