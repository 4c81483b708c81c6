"""kafka-python, pure Python: produce, consume, groups, and what its version has of transactions."""

import functools
import sys
import time

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from scenario import COMPRESSIONS, Features, same
from scenario import records as all_records

SERVERS, PREFIX = sys.argv[1].split(","), sys.argv[2]
PATIENCE = 40
records = functools.partial(all_records, both_null=False, null_headers=False)
admin = KafkaAdminClient(bootstrap_servers=SERVERS)


def topic(name, partitions):
    name = f"{PREFIX}-{name}"
    admin.create_topics([NewTopic(name, partitions, 1)])
    return name


def consumer(*topics, group=None, **more):
    return KafkaConsumer(
        *topics, bootstrap_servers=SERVERS, auto_offset_reset="earliest", enable_auto_commit=False,
        group_id=group and f"{PREFIX}-{group}", metadata_max_age_ms=2000, **more)


def send(client, name, items):
    futures = [client.send(name, key=key, value=value, headers=headers) for key, value, headers in items]
    client.flush(PATIENCE)
    for future in futures:
        future.get(PATIENCE)


def produce(name, items, **more):
    client = KafkaProducer(bootstrap_servers=SERVERS, **more)
    send(client, name, items)
    client.close()


def take(clients, count, seconds=PATIENCE):
    got, end = [], time.monotonic() + seconds
    while len(got) < count and time.monotonic() < end:
        for client in clients:
            for batch in client.poll(timeout_ms=50).values():
                got += [(record.key, record.value, list(record.headers)) for record in batch]
    return got


def read_all(name, partitions, count, isolation="read_committed"):
    client = consumer(isolation_level=isolation)
    client.assign([TopicPartition(name, p) for p in range(partitions)])
    got = take([client], count) + take([client], 1, seconds=0.5)
    client.close()
    return got


def compression(kind, idempotent):
    name = topic(f"c-{kind}-{idempotent}", 3)
    sent = records(300)
    produce(name, sent, compression_type=None if kind == "none" else kind, enable_idempotence=idempotent, linger_ms=20)
    same(read_all(name, 3, len(sent)), sent)


def assigned(members, sizes):
    got, end = [], time.monotonic() + PATIENCE
    while sorted(len(member.assignment()) for member in members) != sizes:
        assert time.monotonic() < end, [member.assignment() for member in members]
        got += take(members, 1, seconds=0.1)
    return got


def group():
    name = topic("g", 4)
    first, second = consumer(name, group="g"), consumer(name, group="g")
    got = assigned([first, second], [2, 2])
    sent = records(200)
    produce(name, sent)
    same(got + take([first, second], len(sent) - len(got)), sent)
    first.commit()
    second.commit()
    second.close()
    assert assigned([first], [4]) == [], "a committed record was read again"
    first.close()
    later = records(50, "later")
    produce(name, later)
    third = consumer(name, group="g")
    same(take([third], len(later)) + take([third], 1, seconds=0.5), later)
    third.commit()
    offsets = [third.committed(TopicPartition(name, p)) for p in range(4)]
    assert sum(offset or 0 for offset in offsets) == 250, offsets
    third.close()


def transactional(name):
    client = KafkaProducer(bootstrap_servers=SERVERS, transactional_id=f"{PREFIX}-{name}")
    client.init_transactions()
    return client


def transactions():
    name = topic("txn", 2)
    client = transactional("t")
    kept, dropped = records(40, "kept"), records(40, "dropped")
    for items, end in [(kept[:20], client.commit_transaction), (dropped, client.abort_transaction),
                       (kept[20:], client.commit_transaction)]:
        client.begin_transaction()
        send(client, name, items)
        end()
    client.close()
    same(read_all(name, 2, len(kept)), kept)
    same(read_all(name, 2, len(kept) + len(dropped), "read_uncommitted"), kept + dropped)


def offsets_in_transactions():
    source, sink = topic("source", 2), topic("sink", 2)
    sent = records(60)
    produce(source, sent)
    client = transactional("ctp")
    for finish in [client.abort_transaction, client.commit_transaction]:
        reader = consumer(source, group="ctp", isolation_level="read_committed")
        got = take([reader], len(sent))
        same(got, sent)
        client.begin_transaction()
        send(client, sink, got)
        positions = {p: OffsetAndMetadata(reader.position(p), "", -1) for p in reader.assignment()}
        client.send_offsets_to_transaction(positions, f"{PREFIX}-ctp")
        finish()
        reader.close()
    client.close()
    same(read_all(sink, 2, len(sent)), sent)
    reader = consumer(source, group="ctp")
    assert take([reader], 1, seconds=3) == [], "the committed offsets did not hold"
    reader.close()


def fencing():
    name = topic("fence", 1)
    old = transactional("f")
    old.begin_transaction()
    send(old, name, records(5, "old"))
    new = transactional("f")
    try:
        old.commit_transaction()
    except KafkaError as error:
        assert type(error).__name__ in ("ProducerFencedError", "InvalidProducerEpochError"), repr(error)
    else:
        raise AssertionError("the old producer committed")
    new.begin_transaction()
    send(new, name, records(5, "new"))
    new.commit_transaction()
    new.close()
    same(read_all(name, 1, 5), records(5, "new"))


features = Features()
print("kafka-python", kafka.__version__, flush=True)
for kind in COMPRESSIONS:
    features.run(f"compression {kind}", compression, kind, True)
    features.run(f"compression {kind} not idempotent", compression, kind, False)
features.run("group classic", group)
features.run("transactions", transactions)
features.run("offsets in transactions", offsets_in_transactions)
features.run("fencing", fencing)
features.none("group consumer (KIP-848)", "not tried")
features.end()
