//! How each request is said unless a step says otherwise: the table of `phrases.toml`, read once.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use kafka_wire::schema::{self, Direction};
use kafka_wire::{ApiKey, ErrorCode};
use serde::Deserialize;

use super::conversation::{Conversation, Step, Style, Version};
use super::value;

/// What a careful client does about an answer it cannot use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Remedy {
    /// Aborts the transaction; in the old style it then asks for a new epoch (KIP-360), for what
    /// it sent may still be under way.
    Abort,
    /// Begins anew with InitProducerId, as a restarted application.
    Restart,
    /// Stops: somebody else owns the transactional id.
    Stop,
}

/// How one request is said.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phrase {
    /// Which version.
    pub version: Version,
    /// To whom.
    pub to: String,
    /// Error codes at which it is said again.
    #[serde(default)]
    pub retry_on: Vec<i16>,
    /// Error codes at which a careful client aborts.
    #[serde(default)]
    abort_on: Vec<i16>,
    /// What a careful client does that waits no longer for the answer.
    #[serde(default)]
    pub gave_up: Option<Remedy>,
    /// The body.
    pub fields: toml::Table,
}

impl Phrase {
    /// What a careful client does about an error; absent where it goes on.
    #[must_use]
    pub fn remedy(&self, code: i16, style: Style) -> Option<Remedy> {
        match ErrorCode(code) {
            ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => None,
            // Under transactions of version 2 an old epoch means that somebody else came.
            ErrorCode::INVALID_PRODUCER_EPOCH if style == Style::New => Some(Remedy::Restart),
            _ if self.abort_on.contains(&code) => Some(Remedy::Abort),
            _ => Some(Remedy::Restart),
        }
    }
}

/// The phrase of an API.
#[must_use]
pub fn phrase(api: &str) -> Option<&'static Phrase> {
    static PHRASES: OnceLock<BTreeMap<String, Phrase>> = OnceLock::new();
    let read = || toml::from_str(include_str!("phrases.toml")).expect("phrases.toml is tested");
    PHRASES.get_or_init(read).get(api)
}

/// The steps of a remedy in a style, for a producer and its transaction.
#[must_use]
pub fn remedy_steps(
    remedy: Remedy,
    style: Style,
    by: Option<&str>,
    transaction: Option<&str>,
) -> Vec<Step> {
    #[derive(Deserialize)]
    struct Remedies {
        abort: Vec<Step>,
        restart: Vec<Step>,
    }
    static REMEDIES: OnceLock<Remedies> = OnceLock::new();
    let read = || toml::from_str(include_str!("remedies.toml")).expect("remedies.toml is tested");
    let all = REMEDIES.get_or_init(read);
    let steps = match remedy {
        Remedy::Abort => &all.abort[..],
        Remedy::Restart => &all.restart[..],
        Remedy::Stop => &[],
    };
    let said = steps.iter().filter(|step| step.is_in(style)).map(|step| Step {
        by: by.map(str::to_owned),
        // A new epoch is of no transaction.
        transaction: transaction
            .filter(|_| step.send.as_deref() == Some("EndTxn"))
            .map(str::to_owned),
        style: None,
        ..step.clone()
    });
    said.collect()
}

/// Checks that a step's request can be encoded in a style, as far as its references are known.
pub(super) fn check(
    conversation: &Conversation,
    step: &Step,
    api: &str,
    style: Style,
) -> Result<(), String> {
    let api_key = ApiKey::from_name(api).filter(|key| key.name() == Some(api));
    let api_key = api_key.ok_or_else(|| format!("no API is called {api}"))?;
    let phrase = phrase(api);
    let version = step.version.or(phrase.map(|phrase| phrase.version));
    let version = version.ok_or_else(|| format!("{api} needs a version = N"))?.of(style);
    let layout = schema::layout(api_key, Direction::Request, version)
        .ok_or_else(|| format!("{api} has no version {version}"))?;
    if step.to.is_none() && phrase.is_none() {
        return Err(format!("{api} needs a to = \"…\": whom it is said to"));
    }
    if let Some(raw) = &step.raw {
        return value::hexadecimal(raw).map(drop);
    }
    let fields = value::dry_fields(conversation, step, phrase)?;
    layout.encode(&fields).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phrase_is_of_an_api_and_its_fields_are_in_its_versions() {
        let all: BTreeMap<String, Phrase> = toml::from_str(include_str!("phrases.toml")).unwrap();
        for (api, phrase) in &all {
            let api_key = ApiKey::from_name(api).unwrap();
            for style in [Style::Old, Style::New] {
                let version = phrase.version.of(style);
                let layout = schema::layout(api_key, Direction::Request, version).unwrap();
                for name in phrase.fields.keys() {
                    assert!(layout.find(name).is_some(), "{api} v{version} has no {name}");
                }
            }
        }
    }

    #[test]
    fn an_abort_asks_for_a_new_epoch_in_the_old_style_only() {
        let said = |remedy, style| -> Vec<String> {
            let steps = remedy_steps(remedy, style, Some("p"), Some("T1"));
            steps.iter().map(|step| step.send.clone().unwrap()).collect()
        };
        assert_eq!(said(Remedy::Abort, Style::Old), ["EndTxn", "InitProducerId"]);
        assert_eq!(said(Remedy::Abort, Style::New), ["EndTxn"]);
        assert_eq!(said(Remedy::Restart, Style::New), ["InitProducerId"]);
        assert!(said(Remedy::Stop, Style::Old).is_empty());
    }

    #[test]
    fn a_fenced_producer_begins_anew_and_a_late_batch_aborts() {
        let produce = phrase("Produce").unwrap();
        assert_eq!(produce.remedy(0, Style::Old), None);
        assert_eq!(produce.remedy(120, Style::Old), Some(Remedy::Abort));
        assert_eq!(produce.remedy(47, Style::Old), Some(Remedy::Abort));
        assert_eq!(produce.remedy(47, Style::New), Some(Remedy::Restart));
        assert_eq!(phrase("EndTxn").unwrap().remedy(90, Style::Old), Some(Remedy::Restart));
    }
}
