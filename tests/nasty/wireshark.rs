//! The same forms of one conversation as tshark reads them.
//!
//! On by environment: set `FENCEPOST_LIVE` where tshark is installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Base, Messages, every_form, talks};

/// Forms in which tshark 4.0 finds fewer messages than are there, or others, by how their names begin, and why.
const TSHARK_FINDS_FEWER: [(&str, &str); 14] = [
    ("Ethernet V6Jumbo", "it does not follow the length in the hop-by-hop option"),
    ("Null([2, 0, 0, 0], [0, 0, 0, 10])", "Linux's number of IPv6, in the other order"),
    ("Null([2, 0, 0, 0], [23, 0, 0, 0])", "Windows' number of IPv6"),
    ("In(Vxlan(8472))", "the port that Linux had before the standard's"),
    ("keep-alives of a byte in mid-stream", "the byte is taken for one of the stream"),
    ("old SYN", "every SYN of another number is taken for another connection"),
    ("zstd after a frame to skip", "the file is not opened"),
    ("pcap behind pcap", "the second file is taken for a packet"),
    ("pcapng behind pcap", "the second file is taken for a packet"),
    ("pcap behind pcapng", "the second file is taken for a block"),
    ("packed files one behind the other", "the second file is taken for a packet"),
    ("interfaces Little", "the file is not read; which block it is was not looked for"),
    ("interfaces Big", "the file is not read; which block it is was not looked for"),
    ("ports again", "where numbers are near the first connection's, they are taken for its own"),
];
/// Parts of tokens that tshark takes for correlation ids: it knows no tokens without a header.
const TOKENS: [&[u8; 4]; 5] = [b"secr", b"r=ab", b"v=c2", b"=me,", b"ws,r"];

/// The messages that tshark finds.
fn messages(file: &Path) -> Messages {
    let fields = ["tcp.srcport", "tcp.dstport", "kafka.correlation_id"];
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-d", "tcp.port==9092,kafka", "-Y", "kafka", "-T", "fields"]);
    tshark.args(["-o", "tcp.reassemble_out_of_order:TRUE"]);
    fields.iter().for_each(|field| {
        tshark.args(["-e", field]);
    });
    let done = tshark.output().unwrap();
    let mut found = BTreeSet::new();
    for line in String::from_utf8(done.stdout).unwrap().lines() {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        let last = |list: &str| list.rsplit(',').next().and_then(|port| port.parse().ok());
        let (Some(source), Some(target)) = (last(next()), last(next())) else { continue };
        let port: u16 = if target == 9092 { source } else { target };
        let ids = next().split(',').filter_map(|id| id.parse().ok());
        found.extend(ids.map(|id: i32| (port, id, target != 9092)));
    }
    found
}

#[test]
fn tshark_sees_no_message_that_we_do_not() {
    if std::env::var_os("FENCEPOST_LIVE").is_none() {
        return;
    }
    let mut base = Base::new(talks::sasl_and_pipelines());
    base.forms = Some(Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("form");
    let (mut more, mut fewer, mut equal) = (Vec::new(), Vec::new(), 0);
    for (name, bytes, ours) in every_form(base).forms.unwrap() {
        fs::write(&file, bytes).unwrap();
        let mut theirs = messages(&file);
        theirs.retain(|(_, id, _)| !TOKENS.contains(&&id.to_be_bytes()));
        let (missing, extra) = (theirs.difference(&ours), ours.difference(&theirs));
        let (missing, extra): (Vec<_>, Vec<_>) = (missing.collect(), extra.collect());
        equal += usize::from(missing.is_empty() && extra.is_empty());
        let known = TSHARK_FINDS_FEWER.iter().any(|(form, _)| name.starts_with(form));
        if !missing.is_empty() && !known {
            more.push(format!("{name}: {missing:?}"));
        }
        if !extra.is_empty() && !known {
            fewer.push(format!("{name}: {} of {}", ours.len() - extra.len(), ours.len()));
        }
    }
    println!("{equal} forms equal");
    let told = [more.join("\n"), fewer.join("\n")].join("\n-- fewer:\n");
    assert!(more.is_empty() && fewer.is_empty(), "more:\n{told}");
}
