"""librdkafka through confluent-kafka: all it can do with a broker, each step compared with what was sent."""

import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition, libversion
from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from scenario import COMPRESSIONS, Features, records, same

SERVERS, PREFIX = sys.argv[1], sys.argv[2]
PATIENCE = 40
admin = AdminClient({"bootstrap.servers": SERVERS})


def topic(name, partitions):
    name = f"{PREFIX}-{name}"
    for made in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        made.result()
    return name


def producer(**more):
    return Producer({"bootstrap.servers": SERVERS, **{k.replace("_", "."): v for k, v in more.items()}})


def consumer(group, **more):
    return Consumer({
        "bootstrap.servers": SERVERS, "group.id": f"{PREFIX}-{group}", "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "check.crcs": True, **{k.replace("_", "."): v for k, v in more.items()},
    })


def send(client, name, items):
    failed = []

    def report(error, _):
        if error is not None:
            failed.append(error)

    for key, value, headers in items:
        client.produce(name, key=key, value=value, headers=headers, on_delivery=report)
    assert client.flush(PATIENCE) == 0, "records are left in the queue"
    assert not failed, failed[0]


def take(clients, count, seconds=PATIENCE):
    """Polls until `count` records came, or time is up."""
    got, end = [], time.monotonic() + seconds
    while len(got) < count and time.monotonic() < end:
        for client in clients:
            message = client.poll(0.05)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            got.append((message.key(), message.value(), message.headers() or []))
    return got


def read_all(name, partitions, count, isolation="read_committed"):
    """Assigned by hand from the beginning; a little longer than needed, in case there is too much."""
    client = consumer("reader", isolation_level=isolation)
    client.assign([TopicPartition(name, p, 0) for p in range(partitions)])
    got = take([client], count) + take([client], 1, seconds=0.5)
    client.close()
    return got


def compression(kind, acks, idempotent):
    name = topic(f"c-{kind}-{acks}-{idempotent}", 3)
    sent = records(300)
    send(producer(compression_type=kind, acks=acks, enable_idempotence=idempotent, linger_ms=20), name, sent)
    same(read_all(name, 3, len(sent)), sent)


def assigned(members, sizes):
    """Polls the members until their assignments have these sizes."""
    got, end = [], time.monotonic() + PATIENCE
    while sorted(len(member.assignment()) for member in members) != sizes:
        assert time.monotonic() < end, [member.assignment() for member in members]
        got += take(members, 1, seconds=0.1)
    return got


def group(protocol, **more):
    name = topic(f"g-{protocol}-{len(more)}", 4)
    who = f"g-{protocol}-{len(more)}"

    def member():
        client = consumer(who, group_protocol=protocol, **more)
        client.subscribe([name])
        return client

    first, second = member(), member()
    got = assigned([first, second], [2, 2])
    sent = records(200)
    send(producer(), name, sent)
    got += take([first, second], len(sent) - len(got))
    same(got, sent)
    for client in (first, second):
        client.commit(asynchronous=False)
    second.close()
    assert assigned([first], [4]) == [], "a committed record was read again"
    first.close()
    later = records(50, "later")
    send(producer(), name, later)
    third = member()
    same(take([third], len(later)) + take([third], 1, seconds=0.5), later)
    third.commit(asynchronous=False)
    offsets = third.committed([TopicPartition(name, p) for p in range(4)], PATIENCE)
    assert sum(max(p.offset, 0) for p in offsets) == 250, offsets
    third.close()


def transactions():
    name = topic("txn", 2)
    client = producer(transactional_id=f"{PREFIX}-t")
    client.init_transactions(PATIENCE)
    kept, dropped = records(40, "kept"), records(40, "dropped")
    for items, end in [(kept[:20], client.commit_transaction), (dropped, client.abort_transaction),
                       (kept[20:], client.commit_transaction)]:
        client.begin_transaction()
        send(client, name, items)
        end(PATIENCE)
    same(read_all(name, 2, len(kept)), kept)
    same(read_all(name, 2, len(kept) + len(dropped), "read_uncommitted"), kept + dropped)


def open_transaction_is_not_read():
    name = topic("open", 1)
    client = producer(transactional_id=f"{PREFIX}-open")
    client.init_transactions(PATIENCE)
    client.begin_transaction()
    send(client, name, records(5))
    assert read_all(name, 1, 0) == [], "read before the commit"
    client.commit_transaction(PATIENCE)
    same(read_all(name, 1, 5), records(5))


def offsets_in_transactions():
    source, sink = topic("source", 2), topic("sink", 2)
    sent = records(60)
    send(producer(), source, sent)
    client = producer(transactional_id=f"{PREFIX}-ctp")
    client.init_transactions(PATIENCE)

    def copy(finish):
        reader = consumer("ctp", isolation_level="read_committed")
        reader.subscribe([source])
        got = take([reader], len(sent))
        client.begin_transaction()
        send(client, sink, got)
        positions = reader.position(reader.assignment())
        client.send_offsets_to_transaction(positions, reader.consumer_group_metadata(), PATIENCE)
        finish(PATIENCE)
        reader.close()
        return got

    same(copy(client.abort_transaction), sent)
    same(copy(client.commit_transaction), sent)
    same(read_all(sink, 2, len(sent)), sent)
    reader = consumer("ctp")
    reader.subscribe([source])
    assert take([reader], 1, seconds=3) == [], "the committed offsets did not hold"
    reader.close()


def fencing():
    name = topic("fence", 1)
    old = producer(transactional_id=f"{PREFIX}-f")
    old.init_transactions(PATIENCE)
    old.begin_transaction()
    send(old, name, records(5, "old"))
    new = producer(transactional_id=f"{PREFIX}-f")
    new.init_transactions(PATIENCE)
    try:
        old.commit_transaction(PATIENCE)
    except KafkaException as error:
        told = error.args[0]
        assert told.fatal() and told.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED), told
    else:
        raise AssertionError("the old producer committed")
    new.begin_transaction()
    send(new, name, records(5, "new"))
    new.commit_transaction(PATIENCE)
    same(read_all(name, 1, 5), records(5, "new"))


def administration():
    name = topic("admin", 2)
    send(producer(), name, records(30))
    seen = admin.list_topics(timeout=PATIENCE).topics[name]
    assert sorted(seen.partitions) == [0, 1], seen.partitions
    partitions = [TopicPartition(name, p) for p in range(2)]
    latest = admin.list_offsets({p: OffsetSpec.latest() for p in partitions},
                                isolation_level=IsolationLevel.READ_COMMITTED)
    ends = {p.partition: f.result().offset for p, f in latest.items()}
    assert sum(ends.values()) == 30, ends
    admin.delete_records([TopicPartition(name, 0, ends[0])])[TopicPartition(name, 0)].result()
    assert len(read_all(name, 2, ends[1])) == ends[1]
    groups = admin.list_consumer_groups().result()
    assert not groups.errors, groups.errors
    mine = [g.group_id for g in groups.valid if g.group_id.startswith(f"{PREFIX}-g-")]
    for described in admin.describe_consumer_groups(mine).values():
        described.result()
    offsets = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(mine[0])])
    assert offsets[mine[0]].result().topic_partitions
    for deleted in admin.delete_consumer_groups(mine).values():
        deleted.result()
    admin.describe_cluster().result()
    for deleted in admin.delete_topics([name]).values():
        deleted.result()
    assert name not in admin.list_topics(timeout=PATIENCE).topics


features = Features()
print("librdkafka", libversion()[0], flush=True)
for kind in COMPRESSIONS:
    features.run(f"compression {kind}", compression, kind, "all", True)
    features.run(f"compression {kind} acks=1", compression, kind, "1", False)
features.run("group classic", group, "classic")
features.run("group classic, cooperative", lambda: group("classic", partition_assignment_strategy="cooperative-sticky"))
features.run("group consumer (KIP-848)", group, "consumer")
features.run("transactions", transactions)
features.run("open transaction", open_transaction_is_not_read)
features.run("offsets in transactions", offsets_in_transactions)
features.run("fencing", fencing)
features.run("administration", administration)
features.end()
