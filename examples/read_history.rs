//! scratch
use fencepost::history::columns::MopRef;
use fencepost::history::read::{Format, read_history};
fn main() {
    let threads: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    for path in std::env::args().skip(2) {
        let t = std::time::Instant::now();
        let r = read_history(
            std::fs::File::open(&path).unwrap(),
            Format::Auto,
            threads.try_into().unwrap(),
        )
        .unwrap();
        let el = t.elapsed();
        let h = &r.history;
        let t2 = std::time::Instant::now();
        let (mut sends, mut polls, mut runs, mut recs, mut app, mut reads, mut sum) =
            (0u64, 0u64, 0u64, 0u64, 0u64, 0u64, 0i64);
        for op in h.ops() {
            for m in op.mops() {
                match m {
                    MopRef::Send { .. } => sends += 1,
                    MopRef::Append { .. } => app += 1,
                    MopRef::Read { .. } => reads += 1,
                    MopRef::Poll(p) => {
                        polls += 1;
                        for r in p.runs() {
                            runs += 1;
                            recs += r.records().len() as u64;
                            r.records()
                                .for_each(|(o, v)| sum = sum.wrapping_add(o.unwrap_or(0) ^ v.0));
                        }
                    }
                }
            }
        }
        let fold = t2.elapsed();
        println!(
            "{path}: {:?} ops {} mops {} keys {} procs {} s{sends} p{polls} runs{runs} recs{recs} a{app} r{reads} sum{sum} cols {:.1}MB {:?} {:.0} MB/s fold {:?}",
            r.format,
            h.len(),
            h.mop_count(),
            h.key_count(),
            h.process_count(),
            h.column_bytes() as f64 / 1e6,
            el,
            r.bytes as f64 / 1e6 / el.as_secs_f64(),
            fold
        );
        for o in r.observations.iter() {
            println!("   {o:?}");
        }
        if let Some(s) = r.stopped {
            println!("   STOPPED {s}");
        }
    }
    if let Ok(s) = std::fs::read_to_string("/proc/self/status") {
        for l in s.lines().filter(|l| l.starts_with("VmHWM")) {
            println!("{l}");
        }
    }
}
