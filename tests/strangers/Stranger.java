// The Java client: all it can do with a broker, each step compared with what was sent.
//
// java -cp 'JARS/*' Stranger.java BOOTSTRAP_SERVERS PREFIX; prints a line a feature, exits with 1 where one failed.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.common.utils.AppInfoParser;

public class Stranger {
    static final long PATIENCE_MS = 40_000;
    static String servers;
    static String prefix;
    static boolean failed;

    interface Feature {
        void run() throws Exception;
    }

    record Item(String key, String value, List<String> headers) {
        static Item of(ConsumerRecord<byte[], byte[]> r) {
            List<String> headers = new ArrayList<>();
            for (Header h : r.headers()) headers.add(h.key() + "=" + text(h.value()));
            return new Item(text(r.key()), text(r.value()), headers);
        }

        ProducerRecord<byte[], byte[]> to(String topic) {
            var out = new ProducerRecord<>(topic, bytes(key), bytes(value));
            for (String h : headers) {
                String[] parts = h.split("=", 2);
                out.headers().add(new RecordHeader(parts[0], parts[1].equals("null") ? null : bytes(parts[1])));
            }
            return out;
        }
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    /** With keys, values and header values that are null, and empty ones. */
    static List<Item> records(int count, String tag) {
        List<Item> out = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            String value = i % 5 == 4 ? null : i % 5 == 3 ? "" : (tag + "-" + i + " ").repeat(40);
            List<String> headers = i % 3 == 0 ? List.of() : List.of("n=" + i, "n=again", "null=null");
            out.add(new Item(i % 7 == 3 ? null : "key-" + i, value, headers));
        }
        return out;
    }

    static void check(boolean holds, Object says) {
        if (!holds) throw new AssertionError(String.valueOf(says));
    }

    static void same(List<Item> got, List<Item> sent) {
        var order = Comparator.comparing(Item::toString);
        check(got.stream().sorted(order).toList().equals(sent.stream().sorted(order).toList()),
            got.size() + " came back of " + sent.size() + ", or they differ");
    }

    static List<Item> both(List<Item> a, List<Item> b) {
        List<Item> out = new ArrayList<>(a);
        out.addAll(b);
        return out;
    }

    static Map<String, Object> config(Object... pairs) {
        Map<String, Object> out = new HashMap<>();
        out.put("bootstrap.servers", servers);
        for (int i = 0; i < pairs.length; i += 2) out.put((String) pairs[i], pairs[i + 1]);
        return out;
    }

    static String topic(Admin admin, String name, int partitions) throws Exception {
        String full = prefix + "-" + name;
        admin.createTopics(List.of(new NewTopic(full, partitions, (short) 1))).all().get();
        return full;
    }

    static Producer<byte[], byte[]> producer(Object... pairs) {
        return new KafkaProducer<>(config(pairs), new ByteArraySerializer(), new ByteArraySerializer());
    }

    static Producer<byte[], byte[]> transactional(String id) {
        var client = producer("transactional.id", prefix + "-" + id);
        client.initTransactions();
        return client;
    }

    static Consumer<byte[], byte[]> consumer(String group, Object... pairs) {
        var config = config(pairs);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        if (group != null) config.put("group.id", prefix + "-" + group);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static void send(Producer<byte[], byte[]> client, String topic, List<Item> items) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (Item item : items) sent.add(client.send(item.to(topic)));
        client.flush();
        for (var one : sent) one.get();
    }

    static void produce(String topic, List<Item> items, Object... pairs) throws Exception {
        try (var client = producer(pairs)) {
            send(client, topic, items);
        }
    }

    static List<Item> take(List<Consumer<byte[], byte[]>> clients, int count, long ms) {
        List<Item> got = new ArrayList<>();
        long end = System.currentTimeMillis() + ms;
        while (got.size() < count && System.currentTimeMillis() < end)
            for (var client : clients)
                for (var r : client.poll(Duration.ofMillis(50))) got.add(Item.of(r));
        return got;
    }

    static List<Item> readAll(String topic, int partitions, int count, String isolation) {
        try (var client = consumer(null, "isolation.level", isolation)) {
            List<TopicPartition> all = new ArrayList<>();
            for (int p = 0; p < partitions; p++) all.add(new TopicPartition(topic, p));
            client.assign(all);
            client.seekToBeginning(all);
            List<Item> got = take(List.of(client), count, PATIENCE_MS);
            return both(got, take(List.of(client), 1, 500));
        }
    }

    static void compression(Admin admin, String kind, boolean idempotent) throws Exception {
        String name = topic(admin, "c-" + kind + "-" + idempotent, 3);
        List<Item> sent = records(300, "v");
        produce(name, sent, "compression.type", kind, "enable.idempotence", idempotent, "linger.ms", 20,
            "acks", idempotent ? "all" : "1");
        same(readAll(name, 3, sent.size(), "read_committed"), sent);
    }

    /** Polls the members until their assignments have these sizes. */
    static List<Item> assigned(List<Consumer<byte[], byte[]>> members, List<Integer> sizes) {
        List<Item> got = new ArrayList<>();
        long end = System.currentTimeMillis() + PATIENCE_MS;
        while (true) {
            var now = members.stream().map(m -> m.assignment().size()).sorted().collect(Collectors.toList());
            if (now.equals(sizes)) return got;
            check(System.currentTimeMillis() < end, now);
            got.addAll(take(members, 1, 100));
        }
    }

    static void group(Admin admin, String who, Object... pairs) throws Exception {
        String name = topic(admin, who, 4);
        Consumer<byte[], byte[]> first = consumer(who, pairs), second = consumer(who, pairs);
        first.subscribe(List.of(name));
        second.subscribe(List.of(name));
        List<Item> got = assigned(List.of(first, second), List.of(2, 2));
        List<Item> sent = records(200, "v");
        produce(name, sent);
        same(both(got, take(List.of(first, second), sent.size() - got.size(), PATIENCE_MS)), sent);
        first.commitSync();
        second.commitSync();
        second.close();
        check(assigned(List.of(first), List.of(4)).isEmpty(), "a committed record was read again");
        first.close();
        List<Item> later = records(50, "later");
        produce(name, later);
        var third = consumer(who, pairs);
        third.subscribe(List.of(name));
        same(both(take(List.of(third), later.size(), PATIENCE_MS), take(List.of(third), 1, 500)), later);
        third.commitSync();
        long sum = 0;
        for (var at : third.committed(third.assignment()).values()) sum += at == null ? 0 : at.offset();
        check(sum == 250, sum);
        third.close();
    }

    static void transactions(Admin admin) throws Exception {
        String name = topic(admin, "txn", 2);
        List<Item> kept = records(40, "kept"), dropped = records(40, "dropped");
        try (var client = transactional("t")) {
            client.beginTransaction();
            send(client, name, kept.subList(0, 20));
            client.commitTransaction();
            client.beginTransaction();
            send(client, name, dropped);
            client.abortTransaction();
            client.beginTransaction();
            send(client, name, kept.subList(20, 40));
            check(readAll(name, 2, 20, "read_committed").size() == 20, "read before the commit");
            client.commitTransaction();
        }
        same(readAll(name, 2, 40, "read_committed"), kept);
        same(readAll(name, 2, 80, "read_uncommitted"), both(kept, dropped));
    }

    static void offsetsInTransactions(Admin admin, Object... pairs) throws Exception {
        String who = "ctp" + pairs.length;
        String source = topic(admin, "source" + pairs.length, 2), sink = topic(admin, "sink" + pairs.length, 2);
        List<Item> sent = records(60, "v");
        produce(source, sent);
        try (var client = transactional(who)) {
            for (boolean commit : new boolean[] {false, true}) {
                try (var reader = consumer(who, pairs)) {
                    reader.subscribe(List.of(source));
                    List<Item> got = take(List.of(reader), sent.size(), PATIENCE_MS);
                    same(got, sent);
                    client.beginTransaction();
                    send(client, sink, got);
                    Map<TopicPartition, OffsetAndMetadata> at = new HashMap<>();
                    for (var p : reader.assignment()) at.put(p, new OffsetAndMetadata(reader.position(p), "said"));
                    client.sendOffsetsToTransaction(at, reader.groupMetadata());
                    if (commit) client.commitTransaction();
                    else client.abortTransaction();
                }
            }
        }
        same(readAll(sink, 2, sent.size(), "read_committed"), sent);
        try (var reader = consumer(who, pairs)) {
            reader.subscribe(List.of(source));
            check(take(List.of(reader), 1, 3000).isEmpty(), "the committed offsets did not hold");
        }
    }

    static void fencing(Admin admin) throws Exception {
        String name = topic(admin, "fence", 1);
        var old = transactional("f");
        old.beginTransaction();
        send(old, name, records(5, "old"));
        try (var young = transactional("f")) {
            try {
                old.commitTransaction();
                check(false, "the old producer committed");
            } catch (ProducerFencedException | InvalidProducerEpochException expected) {
                old.close(Duration.ZERO);
            }
            young.beginTransaction();
            send(young, name, records(5, "new"));
            young.commitTransaction();
        }
        same(readAll(name, 1, 5, "read_committed"), records(5, "new"));

        // The operator's way: fenceProducers.
        var third = transactional("f");
        third.beginTransaction();
        send(third, name, records(5, "third"));
        admin.fenceProducers(List.of(prefix + "-f")).all().get();
        try {
            third.commitTransaction();
            check(false, "a producer fenced by the admin committed");
        } catch (ProducerFencedException | InvalidProducerEpochException expected) {
            third.close(Duration.ZERO);
        }
        same(readAll(name, 1, 5, "read_committed"), records(5, "new"));
    }

    static void administration(Admin admin) throws Exception {
        String name = topic(admin, "admin", 2);
        produce(name, records(30, "v"));
        check(admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size() == 2, name);
        admin.describeConfigs(List.of(new org.apache.kafka.common.config.ConfigResource(
            org.apache.kafka.common.config.ConfigResource.Type.TOPIC, name))).all().get();
        var p0 = new TopicPartition(name, 0);
        long end = admin.listOffsets(Map.of(p0, OffsetSpec.latest())).all().get().get(p0).offset();
        admin.deleteRecords(Map.of(p0, RecordsToDelete.beforeOffset(end))).all().get();
        check(admin.listOffsets(Map.of(p0, OffsetSpec.earliest())).all().get().get(p0).offset() == end, end);
        admin.createPartitions(Map.of(name, NewPartitions.increaseTo(3))).all().get();
        check(admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size() == 3, name);
        admin.describeCluster().nodes().get();
        admin.describeFeatures().featureMetadata().get();
        var groups = admin.listConsumerGroups().all().get().stream().map(ConsumerGroupListing::groupId)
            .filter(g -> g.startsWith(prefix + "-g")).toList();
        check(!groups.isEmpty(), "no groups");
        admin.describeConsumerGroups(groups).all().get();
        check(!admin.listConsumerGroupOffsets(groups.get(0)).partitionsToOffsetAndMetadata().get().isEmpty(), groups);
        admin.deleteConsumerGroups(groups).all().get();
        var open = transactional("adm");
        open.beginTransaction();
        send(open, name, records(3, "v"));
        var listed = admin.listTransactions().all().get().stream().map(TransactionListing::transactionalId).toList();
        check(listed.contains(prefix + "-adm"), listed);
        var described = admin.describeTransactions(List.of(prefix + "-adm")).all().get().get(prefix + "-adm");
        check(described.state() == TransactionState.ONGOING, described);
        var at = described.topicPartitions().iterator().next();
        var states = admin.describeProducers(List.of(at)).all().get().get(at).activeProducers();
        var mine = states.stream().filter(s -> s.producerId() == described.producerId()).findFirst().orElseThrow();
        check(mine.currentTransactionStartOffset().isPresent(), mine);
        admin.abortTransaction(new AbortTransactionSpec(at, mine.producerId(), (short) mine.producerEpoch(),
            mine.coordinatorEpoch().orElse(0))).all().get();
        open.close(Duration.ZERO);
        admin.deleteTopics(List.of(name)).all().get();
        check(!admin.listTopics().names().get().contains(name), name);
    }

    static void feature(String name, Feature feature) {
        try {
            feature.run();
            System.out.println(name + ": ok");
        } catch (Throwable error) {
            failed = true;
            System.out.println(name + ": FAILED: " + error);
            error.printStackTrace(System.out);
        }
        System.out.flush();
    }

    public static void main(String[] arguments) throws Exception {
        servers = arguments[0];
        prefix = arguments[1];
        String version = AppInfoParser.getVersion();
        System.out.println("kafka-clients " + version);
        try (Admin admin = Admin.create(config())) {
            for (String kind : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                feature("compression " + kind, () -> compression(admin, kind, true));
                feature("compression " + kind + " acks=1", () -> compression(admin, kind, false));
            }
            String sticky = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
            feature("group classic", () -> group(admin, "g-eager",
                "partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor"));
            feature("group classic, cooperative", () -> group(admin, "g-sticky", "partition.assignment.strategy", sticky));
            feature("group consumer (KIP-848)", () -> group(admin, "g-848", "group.protocol", "consumer"));
            feature("transactions", () -> transactions(admin));
            feature("offsets in transactions", () -> offsetsInTransactions(admin));
            feature("offsets in transactions (KIP-848)", () -> offsetsInTransactions(admin, "group.protocol", "consumer"));
            feature("fencing", () -> fencing(admin));
            feature("administration", () -> administration(admin));
        }
        System.exit(failed ? 1 : 0);
    }
}
