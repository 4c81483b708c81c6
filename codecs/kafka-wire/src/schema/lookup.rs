//! Turns a few paths into a program that reads just those fields of a body.
//!
//! Paths are resolved once for a version; a run then announces hits by the path's number and walks
//! past everything else, runs of fixed-size fields in one step. This is how columns, proxy rules
//! and address rewriting read.
//!
//! Never: looks up a name while it reads.

use std::fmt;
use std::sync::OnceLock;

use super::layout::{FieldId, Layout};
use super::place::Place;
use super::program::Program;
use super::run::run;
use super::walk::{Flow, Limits, Scalar, Visitor, Walked};
use super::{Direction, Message, message};
use crate::api::ApiKey;

/// A path that no version of the message has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField {
    /// The message.
    pub message: &'static str,
    /// The path.
    pub path: String,
}

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no field {} in any version", self.message, self.path)
    }
}

impl std::error::Error for UnknownField {}

/// Some fields of one version, ready to be read.
///
/// ```
/// use kafka_wire::{ApiKey, schema::{self, Direction, Flow}};
///
/// let layout = schema::layout(ApiKey::DELETE_GROUPS, Direction::Response, 0).unwrap();
/// let lookup = layout.lookup(&["results.group_id", "results.error_code"]).unwrap();
/// let body = [0, 0, 0, 0, 0, 0, 0, 2, 0, 1, b'a', 0, 0, 0, 1, b'b', 0, 69];
/// let mut codes = Vec::new();
/// lookup.read(&body, |hit| {
///     if hit.slot == 1 {
///         codes.push((hit.place.index(0).unwrap(), hit.value.as_int().unwrap()));
///     }
///     Flow::Continue(())
/// });
/// assert_eq!(codes, [(0, 0), (1, 69)]);
/// ```
#[derive(Debug)]
pub struct Lookup {
    layout: &'static Layout,
    program: Program,
    /// By field.
    slots: Box<[Option<u16>]>,
    /// By slot.
    fields: Box<[Option<FieldId>]>,
}

/// A field that was looked up, found.
#[derive(Clone, Copy)]
pub struct Hit<'w, 'b> {
    /// Which of the paths.
    pub slot: usize,
    /// Where.
    pub place: &'w Place<'w>,
    /// What; [`Scalar::Null`] for an array or struct that is null.
    pub value: Scalar<'b>,
}

impl Layout {
    /// Resolves paths of names without indexes, such as `topics.partitions.error_code`. The paths
    /// must end at values; of an array of values every element is a hit. Fields that only other
    /// versions have are never hit.
    ///
    /// # Errors
    /// Where a path is in no version of the message, or names a struct.
    pub fn lookup(&'static self, paths: &[&str]) -> Result<Lookup, UnknownField> {
        let fields: Box<[_]> = paths.iter().map(|path| self.find(path)).collect();
        let mut slots = vec![None; self.fields.len()].into_boxed_slice();
        for (slot, field) in fields.iter().enumerate() {
            let is_value = |id: FieldId| self.children(id).len() == 0;
            match field {
                Some(id) if is_value(*id) => slots[usize::from(id.0)] = Some(slot as u16),
                None if exists(self.message(), paths[slot]) => {}
                _ => {
                    let message = self.message().name();
                    return Err(UnknownField { message, path: paths[slot].to_owned() });
                }
            }
        }
        let program = Program::selected(self, &|id| slots[usize::from(id)].is_some());
        Ok(Lookup { layout: self, program, slots, fields })
    }
}

/// Whether any version of the message has the path.
fn exists(message: &'static Message, path: &str) -> bool {
    let versions = message.versions();
    (versions.min..=versions.max)
        .any(|version| message.layout(version).is_some_and(|layout| layout.find(path).is_some()))
}

impl Lookup {
    /// The layout it reads.
    #[must_use]
    pub fn layout(&self) -> &'static Layout {
        self.layout
    }

    /// The field of a slot, absent where this version lacks it.
    #[must_use]
    pub fn field(&self, slot: usize) -> Option<FieldId> {
        *self.fields.get(slot)?
    }

    /// Reads a body and hands out every hit, in the order of the bytes.
    pub fn read<'b>(&self, body: &'b [u8], found: impl FnMut(Hit<'_, 'b>) -> Flow) -> Walked {
        let mut hits = Hits { slots: &self.slots, found };
        run::<_, false>(self.layout, &self.program, body, Limits::NONE, &mut hits)
    }
}

struct Hits<'l, F> {
    slots: &'l [Option<u16>],
    found: F,
}

impl<'b, F: FnMut(Hit<'_, 'b>) -> Flow> Visitor<'b> for Hits<'_, F> {
    #[inline(always)]
    fn value(&mut self, place: &Place<'_>, value: Scalar<'b>) -> Flow {
        let slot = place.id().and_then(|id| self.slots[usize::from(id.0)]);
        slot.map_or(Flow::Continue(()), |slot| {
            (self.found)(Hit { slot: slot.into(), place, value })
        })
    }
}

/// The same paths for every version of a message, each version resolved at first use.
///
/// ```
/// use kafka_wire::{ApiKey, schema::{Direction, Lookups}};
/// let hosts = Lookups::new(
///     ApiKey::METADATA,
///     Direction::Response,
///     &["brokers.host", "brokers.port", "cluster_id"],
/// ).unwrap();
/// assert!(hosts.at(0).unwrap().field(2).is_none()); // cluster_id is since v2.
/// assert!(hosts.at(12).unwrap().field(2).is_some());
/// assert!(hosts.at(99).is_none());
/// ```
#[derive(Debug)]
pub struct Lookups {
    message: &'static Message,
    paths: Vec<String>,
    versions: Box<[OnceLock<Option<Lookup>>]>,
}

impl Lookups {
    /// Checks the paths; resolves nothing yet.
    ///
    /// # Errors
    /// Where a path is in no version. An API that the table does not know has no fields at all.
    pub fn new(
        api_key: ApiKey,
        direction: Direction,
        paths: &[&str],
    ) -> Result<Self, UnknownField> {
        let unknown = |message, path: &str| UnknownField { message, path: path.to_owned() };
        let message = message(api_key, direction).ok_or_else(|| unknown("", ""))?;
        if let Some(path) = paths.iter().find(|path| !exists(message, path)) {
            return Err(unknown(message.name(), path));
        }
        let versions = message.versions();
        Ok(Self {
            message,
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            versions: (versions.min..=versions.max).map(|_| OnceLock::new()).collect(),
        })
    }

    /// The fields of a version, absent where the table does not know it.
    #[must_use]
    pub fn at(&self, version: i16) -> Option<&Lookup> {
        let index = version.checked_sub(self.message.versions().min)?;
        let lookup = self.versions.get(usize::try_from(index).ok()?)?;
        let resolve = || {
            let paths: Vec<&str> = self.paths.iter().map(String::as_str).collect();
            self.message.layout(version)?.lookup(&paths).ok()
        };
        lookup.get_or_init(resolve).as_ref()
    }
}
