// franz-go: all it can do with a broker, each step compared with what was sent.
//
// go run . BOOTSTRAP_SERVERS PREFIX; prints a line a feature, exits with 1 where one failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const patience = 40 * time.Second

var (
	servers []string
	prefix  string
	failed  bool
)

// With keys, values and header values that are null, and empty ones.
func records(count int, tag string) []*kgo.Record {
	var out []*kgo.Record
	for i := range count {
		r := &kgo.Record{}
		if i%7 != 3 {
			r.Key = fmt.Appendf(nil, "key-%d", i)
		}
		switch i % 5 {
		case 4:
		case 3:
			r.Value = []byte{}
		default:
			r.Value = []byte(strings.Repeat(fmt.Sprintf("%s-%d ", tag, i), 40))
		}
		if i%3 != 0 {
			r.Headers = []kgo.RecordHeader{{Key: "n", Value: fmt.Appendf(nil, "%d", i)}, {Key: "n", Value: []byte("again")}, {Key: "null"}}
		}
		out = append(out, r)
	}
	return out
}

func plain(of []*kgo.Record) []string {
	var out []string
	for _, r := range of {
		text := fmt.Sprintf("%v %q %v %q", r.Key == nil, r.Key, r.Value == nil, r.Value)
		for _, h := range r.Headers {
			text += fmt.Sprintf(" %s %v %q", h.Key, h.Value == nil, h.Value)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

func same(got, sent []*kgo.Record) {
	if !slices.Equal(plain(got), plain(sent)) {
		panic(fmt.Sprintf("%d came back of %d, or they differ", len(got), len(sent)))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func client(options ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(servers...)}, options...)...)
	check(err)
	return made
}

func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func topic(name string, partitions int32) string {
	name = prefix + "-" + name
	c := client()
	defer c.Close()
	ctx, stop := within()
	defer stop()
	_, err := kadm.NewClient(c).CreateTopic(ctx, partitions, 1, nil, name)
	check(err)
	return name
}

func send(c *kgo.Client, name string, items []*kgo.Record) {
	ctx, stop := within()
	defer stop()
	var copies []*kgo.Record
	for _, r := range items {
		copies = append(copies, &kgo.Record{Topic: name, Key: r.Key, Value: r.Value, Headers: r.Headers})
	}
	check(c.ProduceSync(ctx, copies...).FirstErr())
}

func produce(name string, items []*kgo.Record, options ...kgo.Opt) {
	c := client(options...)
	defer c.Close()
	send(c, name, items)
}

func take(cs []*kgo.Client, count int, limit time.Duration) []*kgo.Record {
	var got []*kgo.Record
	for end := time.Now().Add(limit); len(got) < count && time.Now().Before(end); {
		for _, c := range cs {
			ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
			fetches := c.PollFetches(ctx)
			stop()
			for _, e := range fetches.Errors() {
				if !errors.Is(e.Err, context.DeadlineExceeded) {
					panic(e.Err)
				}
			}
			got = append(got, fetches.Records()...)
		}
	}
	return got
}

func readAll(name string, count int, isolation kgo.IsolationLevel) []*kgo.Record {
	c := client(kgo.ConsumeTopics(name), kgo.FetchIsolationLevel(isolation), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	got := take([]*kgo.Client{c}, count, patience)
	return append(got, take([]*kgo.Client{c}, 1, time.Second/2)...)
}

func compression(kind string, codec kgo.CompressionCodec, acks kgo.Acks) {
	options := []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.RequiredAcks(acks)}
	name := topic(fmt.Sprintf("c-%s-%v", kind, acks == kgo.AllISRAcks()), 3)
	if acks != kgo.AllISRAcks() {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	sent := records(300, "v")
	produce(name, sent, options...)
	same(readAll(name, len(sent), kgo.ReadCommitted()), sent)
}

type member struct {
	*kgo.Client
	assigned map[int32]bool
}

func join(group, name string, options ...kgo.Opt) *member {
	m := &member{assigned: map[int32]bool{}}
	change := func(owns bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, moved map[string][]int32) {
			for _, p := range moved[name] {
				m.assigned[p] = owns
			}
		}
	}
	// Callbacks run inside polls only, so that the map needs no lock.
	m.Client = client(append(options, kgo.ConsumerGroup(prefix+"-"+group), kgo.ConsumeTopics(name), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll(), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)))...)
	return m
}

func (m *member) owns() int {
	count := 0
	for _, owned := range m.assigned {
		if owned {
			count++
		}
	}
	return count
}

func poll(members []*member, count int, limit time.Duration) []*kgo.Record {
	var got []*kgo.Record
	for end := time.Now().Add(limit); len(got) < count && time.Now().Before(end); {
		for _, m := range members {
			got = append(got, take([]*kgo.Client{m.Client}, 1, 50*time.Millisecond)...)
			m.AllowRebalance()
		}
	}
	return got
}

func assigned(members []*member, sizes ...int) []*kgo.Record {
	var got []*kgo.Record
	for end := time.Now().Add(patience); ; {
		var now []int
		for _, m := range members {
			now = append(now, m.owns())
		}
		slices.Sort(now)
		if slices.Equal(now, sizes) {
			return got
		}
		if time.Now().After(end) {
			panic(fmt.Sprint("assigned: ", now))
		}
		got = append(got, poll(members, 1, 200*time.Millisecond)...)
	}
}

func group(who string, options ...kgo.Opt) {
	name := topic(who, 4)
	ctx, stop := within()
	defer stop()
	first, second := join(who, name, options...), join(who, name, options...)
	got := assigned([]*member{first, second}, 2, 2)
	sent := records(200, "v")
	produce(name, sent)
	same(append(got, poll([]*member{first, second}, len(sent)-len(got), patience)...), sent)
	check(first.CommitUncommittedOffsets(ctx))
	check(second.CommitUncommittedOffsets(ctx))
	second.Close()
	if again := assigned([]*member{first}, 4); len(again) > 0 {
		panic("a committed record was read again")
	}
	first.Close()
	later := records(50, "later")
	produce(name, later)
	third := join(who, name, options...)
	same(append(poll([]*member{third}, len(later), patience), poll([]*member{third}, 1, time.Second/2)...), later)
	check(third.CommitUncommittedOffsets(ctx))
	offsets, err := kadm.NewClient(third.Client).FetchOffsets(ctx, prefix+"-"+who)
	check(err)
	var sum int64
	offsets.Each(func(o kadm.OffsetResponse) { sum += max(o.At, 0) })
	if sum != 250 {
		panic(fmt.Sprint("committed: ", sum))
	}
	third.Close()
}

func transactional(id string) *kgo.Client { return client(kgo.TransactionalID(prefix + "-" + id)) }

func transactions() {
	name := topic("txn", 2)
	c := transactional("t")
	defer c.Close()
	ctx, stop := within()
	defer stop()
	kept, dropped := records(40, "kept"), records(40, "dropped")
	for _, one := range []struct {
		items []*kgo.Record
		end   kgo.TransactionEndTry
	}{{kept[:20], kgo.TryCommit}, {dropped, kgo.TryAbort}, {kept[20:], kgo.TryCommit}} {
		check(c.BeginTransaction())
		send(c, name, one.items)
		check(c.EndTransaction(ctx, one.end))
	}
	same(readAll(name, len(kept), kgo.ReadCommitted()), kept)
	same(readAll(name, len(kept)+len(dropped), kgo.ReadUncommitted()), append(kept, dropped...))
}

func offsetsInTransactions(who string, options ...kgo.Opt) {
	source, sink := topic(who+"-source", 2), topic(who+"-sink", 2)
	sent := records(60, "v")
	produce(source, sent)
	ctx, stop := within()
	defer stop()
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		s, err := kgo.NewGroupTransactSession(append(options, kgo.SeedBrokers(servers...), kgo.TransactionalID(prefix+"-"+who),
			kgo.ConsumerGroup(prefix+"-"+who), kgo.ConsumeTopics(source), kgo.RequireStableFetchOffsets(),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
		check(err)
		got := take([]*kgo.Client{s.Client()}, len(sent), patience)
		same(got, sent)
		check(s.Begin())
		send(s.Client(), sink, got)
		committed, err := s.End(ctx, end)
		check(err)
		if committed != bool(end) {
			panic(fmt.Sprint("committed: ", committed))
		}
		s.Close()
	}
	same(readAll(sink, len(sent), kgo.ReadCommitted()), sent)
	reader := join(who, source, options...)
	defer reader.Close()
	if again := poll([]*member{reader}, 1, 3*time.Second); len(again) > 0 {
		panic("the committed offsets did not hold")
	}
}

func fencing() {
	name := topic("fence", 1)
	ctx, stop := within()
	defer stop()
	old := transactional("f")
	defer old.Close()
	check(old.BeginTransaction())
	send(old, name, records(5, "old"))
	young := transactional("f")
	defer young.Close()
	check(young.BeginTransaction())
	send(young, name, records(5, "new"))
	err := old.EndTransaction(ctx, kgo.TryCommit)
	if !errors.Is(err, kerr.ProducerFenced) && !errors.Is(err, kerr.InvalidProducerEpoch) {
		panic(fmt.Sprint("the old producer's commit: ", err))
	}
	check(young.EndTransaction(ctx, kgo.TryCommit))
	same(readAll(name, 5, kgo.ReadCommitted()), records(5, "new"))
}

func administration() {
	name := topic("admin", 2)
	produce(name, records(30, "v"))
	c := client()
	defer c.Close()
	admin := kadm.NewClient(c)
	ctx, stop := within()
	defer stop()
	ends, err := admin.ListCommittedOffsets(ctx, name)
	check(err)
	_, err = admin.DeleteRecords(ctx, ends.Offsets())
	check(err)
	starts, err := admin.ListStartOffsets(ctx, name)
	check(err)
	starts.Each(func(o kadm.ListedOffset) {
		if end, _ := ends.Lookup(name, o.Partition); o.Offset != end.Offset {
			panic(fmt.Sprint("records were not deleted: ", o))
		}
	})
	_, err = admin.DescribeTopicConfigs(ctx, name)
	check(err)
	groups, err := admin.DescribeGroups(ctx)
	check(err)
	check(groups.Error())
	transactions, err := admin.ListTransactions(ctx, nil, nil)
	check(err)
	_, err = admin.DescribeTransactions(ctx, transactions.TransactionalIDs()...)
	check(err)
	_, err = admin.BrokerMetadata(ctx)
	check(err)
	_, err = admin.DeleteTopics(ctx, name)
	check(err)
}

func feature(name string, run func()) {
	defer func() {
		if said := recover(); said != nil {
			failed = true
			fmt.Printf("%s: FAILED: %v\n", name, said)
		} else {
			fmt.Printf("%s: ok\n", name)
		}
	}()
	run()
}

func main() {
	servers, prefix = strings.Split(os.Args[1], ","), os.Args[2]
	fmt.Println("franz-go")
	for kind, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		feature("compression "+kind, func() { compression(kind, codec, kgo.AllISRAcks()) })
		feature("compression "+kind+" acks=1", func() { compression(kind, codec, kgo.LeaderAck()) })
	}
	feature("group classic", func() { group("g-eager", kgo.Balancers(kgo.RangeBalancer())) })
	feature("group classic, cooperative", func() { group("g-sticky", kgo.Balancers(kgo.CooperativeStickyBalancer())) })
	feature("group consumer (KIP-848)", func() { group("g-848", kgo.ServerSideBalancer()) })
	feature("transactions", transactions)
	feature("offsets in transactions", func() { offsetsInTransactions("ctp") })
	feature("offsets in transactions (KIP-848)", func() { offsetsInTransactions("ctp848", kgo.ServerSideBalancer()) })
	feature("fencing", fencing)
	feature("administration", administration)
	if failed {
		os.Exit(1)
	}
}
