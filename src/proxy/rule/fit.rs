//! Refuses what a rule asks for and no frame can ever be.

use kafka_wire::ApiKey;
use kafka_wire::schema;

use super::reader::{half, versions_meant};
use super::{Action, Cut, Rule};
use crate::history::tap::Direction;

/// Whether a rule can apply at all.
///
/// # Errors
/// In words, where it cannot.
pub(super) fn check(rule: &Rule) -> Result<(), String> {
    let when = &rule.when;
    for &api_key in &when.apis {
        let known = schema::versions(api_key);
        let known = known.ok_or_else(|| format!("no API has the key {}", api_key.0))?;
        let (min, max) = known.into_inner();
        if let Some(asked) = when.versions
            && (asked.min.is_some_and(|least| least > max)
                || asked.max.is_some_and(|most| most < min))
        {
            let asked = versions_meant(when.versions);
            return Err(format!("{api_key} has the versions {min}-{max}, not{asked}"));
        }
    }
    if when.direction == Direction::Request
        && let Some(field) = when.fields.iter().find(|field| field.of == Direction::Response)
    {
        return Err(format!("response.{} is not known yet when the request comes", field.path));
    }
    direction(rule)?;
    alterations(rule)
}

/// Some actions make sense one way only.
fn direction(rule: &Rule) -> Result<(), String> {
    let requests_only = match &rule.action {
        Action::Respond(_) => true,
        Action::Duplicate(duplicate) => duplicate.elsewhere,
        Action::Cut(cut) => matches!(cut, Cut::DeliverLater { .. }),
        _ => false,
    };
    if requests_only && rule.when.direction == Direction::Response {
        let verb = rule.action.verb();
        return Err(format!("{verb} of this kind is done to requests, not responses"));
    }
    Ok(())
}

/// What is set must be there to be set.
fn alterations(rule: &Rule) -> Result<(), String> {
    let (paths, of): (Vec<&str>, _) = match &rule.action {
        Action::Mutate(alterations) => {
            let paths = alterations.iter().filter_map(|alteration| match alteration {
                super::Alteration::Set { path, .. } => Some(path.as_str()),
                _ => None,
            });
            (paths.collect(), rule.when.direction)
        }
        Action::Respond(forgery) => {
            (forgery.set.iter().map(|(path, _)| path.as_str()).collect(), Direction::Response)
        }
        _ => return Ok(()),
    };
    if let Action::Respond(_) = rule.action
        && let Some(api_key) = rule.when.apis.iter().find(|api_key| !has_error_field(**api_key))
    {
        return Err(format!("responses to {api_key} have no place for an error code"));
    }
    let needs_api = !paths.is_empty() || matches!(rule.action, Action::Respond(_));
    if needs_api && rule.when.apis.is_empty() {
        return Err(format!("{} needs to know which API", rule.action.verb()));
    }
    for path in paths {
        let plain = super::forge::without_indexes(path);
        for &api_key in &rule.when.apis {
            if !super::reader::in_versions(api_key, of, &plain, rule.when.versions) {
                let (half, which) = (half(of), versions_meant(rule.when.versions));
                return Err(format!("{api_key} {half}{which} has no field {path}"));
            }
        }
    }
    Ok(())
}

/// Whether responses of an API have a place for an error.
fn has_error_field(api_key: ApiKey) -> bool {
    let message = schema::message(api_key, schema::Direction::Response);
    message.is_some_and(|message| {
        let versions = message.versions();
        (versions.min..=versions.max).filter_map(|version| message.layout(version)).any(|layout| {
            super::forge::fields_of(layout).iter().any(|(_, f)| f.name().ends_with("error_code"))
        })
    })
}
