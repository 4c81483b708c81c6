//! Refuses what a rule asks for and no frame can ever be.

use std::fmt;

use kafka_wire::ApiKey;
use kafka_wire::schema::{self, FieldKind};

use super::forge;
use super::reader::{half, versions_meant};
use super::{Action, Alteration, Cut, Rule};
use crate::history::tap::Direction;

/// Why a rule can never apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The key it is about, as the notations have it; `api` for the API, empty for the action.
    pub key: String,
    /// In words.
    pub reason: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Misfit {}

impl Misfit {
    pub(super) fn new(key: impl Into<String>, reason: String) -> Self {
        Self { key: key.into(), reason }
    }
}

/// Whether a rule can apply at all, apart from what its readers ask.
pub(super) fn check(rule: &Rule) -> Result<(), Misfit> {
    let when = &rule.when;
    for &api_key in &when.apis {
        let known = schema::versions(api_key)
            .ok_or_else(|| Misfit::new("api", format!("no API has the key {}", api_key.0)))?;
        let (min, max) = known.into_inner();
        if let Some(asked) = when.versions
            && (asked.min.is_some_and(|least| least > max)
                || asked.max.is_some_and(|most| most < min))
        {
            let asked = versions_meant(when.versions);
            let reason = format!("{api_key} has the versions {min}-{max}, not{asked}");
            return Err(Misfit::new("version", reason));
        }
    }
    if when.direction == Direction::Request
        && let Some(field) = when.fields.iter().find(|field| field.of == Direction::Response)
    {
        let key = format!("response.{}", field.path);
        let reason = format!("{key} is not known yet when the request comes");
        return Err(Misfit::new(key, reason));
    }
    direction(rule)?;
    conditions(rule)?;
    alterations(rule)
}

/// Some actions make sense one way only.
fn direction(rule: &Rule) -> Result<(), Misfit> {
    let requests_only = match &rule.action {
        Action::Respond(_) => Some(""),
        Action::Duplicate(duplicate) => duplicate.elsewhere.then_some("on"),
        Action::Cut(Cut::DeliverLater { .. }) => Some("deliver-after"),
        _ => None,
    };
    match requests_only {
        Some(key) if rule.when.direction == Direction::Response => {
            let reason = match key {
                "" => "only requests can be answered".to_owned(),
                key => format!("{key} is for requests, not for responses"),
            };
            Err(Misfit::new(key, reason))
        }
        _ => Ok(()),
    }
}

/// What a field is to be must be something it can be.
fn conditions(rule: &Rule) -> Result<(), Misfit> {
    for field in &rule.when.fields {
        let is_text = |kind| matches!(kind, FieldKind::String | FieldKind::Bytes);
        for &api_key in &rule.when.apis {
            let kinds = kinds(rule, api_key, field.of, &field.path);
            let can =
                |kind| is_text(kind) || forge::value_of(kind, &field.path, &field.value.0).is_ok();
            if !kinds.is_empty() && !kinds.iter().copied().any(can) {
                let why = forge::value_of(kinds[0], &field.path, &field.value.0);
                let key = format!("{}.{}", half(field.of), field.path);
                return Err(Misfit::new(key, why.err().unwrap_or_default()));
            }
        }
    }
    Ok(())
}

/// What a field is in the versions that are meant.
fn kinds(rule: &Rule, api_key: ApiKey, of: Direction, path: &str) -> Vec<FieldKind> {
    let meant = |version: &i16| rule.when.versions.is_none_or(|meant| meant.contains(*version));
    let layouts = super::reader::layouts(api_key, of).filter(|layout| meant(&layout.version()));
    layouts.filter_map(|layout| Some(layout.field(layout.find(path)?).kind())).collect()
}

/// What is set must be there to be set, and take the value.
fn alterations(rule: &Rule) -> Result<(), Misfit> {
    let (sets, of): (Vec<(&String, &String)>, _) = match &rule.action {
        Action::Mutate(alterations) => {
            let sets = alterations.iter().filter_map(|alteration| match alteration {
                Alteration::Set { path, value } => Some((path, value)),
                _ => None,
            });
            (sets.collect(), rule.when.direction)
        }
        Action::Respond(forgery) => {
            (forgery.set.iter().map(|(path, value)| (path, value)).collect(), Direction::Response)
        }
        _ => return Ok(()),
    };
    if let Action::Respond(_) = rule.action
        && let Some(api_key) = rule.when.apis.iter().find(|api_key| !has_error_field(**api_key))
    {
        let reason = format!("responses to {api_key} have no place for an error code");
        return Err(Misfit::new("api", reason));
    }
    let needs_api = !sets.is_empty() || matches!(rule.action, Action::Respond(_));
    if needs_api && rule.when.apis.is_empty() {
        let reason = format!("{} needs to know which API", rule.action.verb());
        return Err(Misfit::new("api", reason));
    }
    for (path, value) in sets {
        let key = format!("set.{path}");
        for &api_key in &rule.when.apis {
            let kinds = kinds(rule, api_key, of, &forge::without_indexes(path));
            let Some(first) = kinds.first() else {
                let (half, which) = (half(of), versions_meant(rule.when.versions));
                let reason = format!("{api_key} {half}{which} has no field {path}");
                return Err(Misfit::new(key, reason));
            };
            forge::value_of(*first, path, value)
                .map_err(|reason| Misfit::new(key.clone(), reason))?;
        }
    }
    Ok(())
}

/// Whether responses of an API have a place for an error.
fn has_error_field(api_key: ApiKey) -> bool {
    super::reader::layouts(api_key, Direction::Response).any(|layout| {
        forge::fields_of(layout).iter().any(|(_, field)| field.name().ends_with("error_code"))
    })
}
