//! The conversations that come with the tool, from `corpus/scenarios/`.

use super::conversation::{BadConversation, Conversation};

macro_rules! files {
    ($($name:literal)*) => {
        &[$((
            concat!("corpus/scenarios/", $name, ".toml"),
            include_str!(concat!("../../corpus/scenarios/", $name, ".toml")),
        )),*]
    };
}

/// A file's name and its text.
pub type Source = (&'static str, &'static str);

/// Scenarios.
pub const SCENARIOS: &[Source] = files!(
    "S1" "S1-cut" "S2" "S2-cut" "S3" "S4" "S5" "S6" "S7" "S8" "S9" "S10" "S11" "S12"
    "S12-leader-killed" "S13" "S13-paused" "S14" "S15" "S16" "S16-every" "S16-paused" "S17"
    "S17-java" "S17-librdkafka" "S18" "S18-java" "S18-librdkafka" "S19" "S19-paused" "S20" "S21"
    "S22" "S23" "S24" "S25" "S26" "S27"
);

/// Conversations for sweeps.
pub const SWEEPS: &[Source] = files!(
    "sweep/one-partition" "sweep/two-batches" "sweep/commit-abort" "sweep/abort-commit"
    "sweep/offsets" "sweep/offsets-twice" "sweep/offsets-in-one" "sweep/two-owners"
    "sweep/two-owners-offsets" "sweep/upgrade" "sweep/downgrade" "sweep/idempotent" "sweep/timeout"
    "sweep/failover"
);

/// Reads every scenario.
///
/// # Errors
/// The first file that is wrong.
pub fn scenarios() -> Result<Vec<Conversation>, BadConversation> {
    SCENARIOS.iter().map(|(file, text)| Conversation::parse(file, text)).collect()
}

/// Reads every conversation for sweeps.
///
/// # Errors
/// The first file that is wrong.
pub fn sweeps() -> Result<Vec<Conversation>, BadConversation> {
    SWEEPS.iter().map(|(file, text)| Conversation::parse(file, text)).collect()
}

/// The conversation of that name, in whatever case.
///
/// # Errors
/// Where its file is wrong.
pub fn find(name: &str) -> Result<Option<Conversation>, BadConversation> {
    let is = |conversation: &Conversation| conversation.name.eq_ignore_ascii_case(name);
    Ok(scenarios()?.into_iter().chain(sweeps()?).find(is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_read_and_named_as_it_is_called() {
        for (file, text) in SCENARIOS.iter().chain(SWEEPS) {
            let conversation = Conversation::parse(file, text).unwrap_or_else(|e| panic!("{e}"));
            assert!(file.ends_with(&format!("/{}.toml", conversation.name)), "{file}");
            let again = Conversation::parse("again", &conversation.to_toml());
            assert_eq!(again.unwrap_or_else(|e| panic!("{e}")), conversation, "{file}");
        }
    }

    #[test]
    fn every_file_of_the_corpus_is_in_the_table() {
        for (folder, table) in [("", SCENARIOS), ("sweep", SWEEPS)] {
            let root = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/scenarios");
            let there = std::fs::read_dir(format!("{root}/{folder}")).unwrap();
            let names = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            for name in names.filter(|name| name.ends_with(".toml")) {
                assert!(
                    table.iter().any(|(file, _)| file.ends_with(&format!("/{name}"))),
                    "{name}"
                );
            }
        }
    }
}
