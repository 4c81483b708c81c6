//! Turns pieces into events, in a chunk's columns.
//!
//! What is odd is noted and read as well as it can be; only a text that breaks its notation stops
//! the reading.

use crate::history::columns::chunk::{Chunk, EventCell, FUNCTIONS, Fill};
use crate::history::event::EventType;
use crate::history::observation::Oddity;

use super::notation::{Malformed, Notation, Piece};
use super::text::{edn_text, words, write_json};

/// Reads events of one text into one chunk.
pub(crate) struct Grammar<'a, 'c, N> {
    notation: N,
    chunk: &'c mut Chunk,
    /// Where the event at hand begins.
    start: usize,
    /// How full the chunk was before it.
    fill: Fill,
    bytes: &'a [u8],
}

/// Fields of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Index = 1,
    Time = 2,
    Type = 4,
    Process = 8,
    Function = 16,
    Value = 32,
    Error = 64,
    EndProcess = 128,
}

/// What the value of an event is made of.
#[derive(Clone, Copy)]
enum ValueShape {
    Mops,
    Keys,
    Any,
}

impl<'a, 'c, N: Notation<'a>> Grammar<'a, 'c, N> {
    /// Before the first event of `bytes`.
    pub(crate) fn new(bytes: &'a [u8], chunk: &'c mut Chunk) -> Self {
        let fill = chunk.fill();
        Self { notation: N::starting_at(bytes, 0), chunk, start: 0, fill, bytes }
    }

    /// Reads all events; what was read before an error stays. The error comes with the place
    /// where its event begins.
    pub(crate) fn read_all(&mut self) -> Result<(), (usize, Malformed)> {
        loop {
            self.fill = self.chunk.fill();
            match self.event() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    self.chunk.truncate(self.fill);
                    return Err((self.start, error));
                }
            }
        }
    }

    #[cold]
    fn odd(&mut self, oddity: Oddity) {
        self.chunk.odd(oddity, self.start as u64);
    }

    /// Whether there was another form.
    fn event(&mut self) -> Result<bool, Malformed> {
        self.start = self.notation.byte_offset();
        while !self.notation.take(b'{') {
            match self.notation.piece()? {
                Piece::Map => break,
                Piece::End => return Ok(false),
                Piece::Tag(name) => {
                    if !name.ends_with(".Op") {
                        self.odd(Oddity::TagIgnored);
                    }
                }
                other => {
                    self.odd(Oddity::NotAnEvent);
                    self.notation.finish(&other)?;
                    return Ok(true);
                }
            }
        }
        let mut event = self.chunk.event(self.start as u64);
        let seen = self.fields(&mut event)?;
        if seen & EXPECTED != EXPECTED && !self.may_lack(seen) {
            return Ok(true);
        }
        self.chunk.events.push(event);
        Ok(true)
    }

    /// Notes what an event lacks. Without a type it is none.
    #[cold]
    fn may_lack(&mut self, seen: u8) -> bool {
        if seen & Field::Type as u8 == 0 {
            self.odd(Oddity::NotAnEvent);
            let fill = self.fill;
            self.chunk.truncate(fill);
            return false;
        }
        for (field, oddity) in [
            (Field::Index, Oddity::MissingIndex),
            (Field::Time, Oddity::MissingTime),
            (Field::Process, Oddity::MissingProcess),
            (Field::Function, Oddity::MissingFunction),
        ] {
            if seen & field as u8 == 0 {
                self.odd(oddity);
            }
        }
        true
    }

    /// Reads the fields of an event; gives those that were there.
    fn fields(&mut self, event: &mut EventCell) -> Result<u8, Malformed> {
        let mut seen = 0;
        // A value in front of its function waits, since the function says what it is made of.
        let mut value_at = None;
        let depth = self.notation.depth();
        // EDN's maps may end behind a name; that name's field is unreadable then.
        while self.notation.depth() >= depth {
            let Some(name) = self.notation.name() else {
                if self.notation.take(b'}') {
                    break;
                }
                match self.notation.piece()? {
                    Piece::Close => break,
                    Piece::Text(name) => self.extra(&name)?,
                    name => {
                        let name = edn_text(&mut self.notation, name)?;
                        self.extra(&name)?;
                    }
                }
                continue;
            };
            let Some(field) = field(name) else {
                let name = self.utf8(name)?;
                self.extra(name)?;
                continue;
            };
            if seen & field as u8 != 0 {
                self.odd(Oddity::FieldRepeated);
                let piece = self.notation.piece()?;
                self.notation.finish(&piece)?;
                continue;
            }
            let there = match field {
                Field::Index => self.natural()?.map(|index| event.index = index).is_some(),
                Field::Time => self.natural()?.map(|time| event.time_ns = time).is_some(),
                Field::Type => self.event_type()?.map(|t| event.event_type = t).is_some(),
                Field::Process => self.process()?.map(|p| event.process = p).is_some(),
                Field::Function => self.function()?.map(|f| event.function = f).is_some(),
                Field::EndProcess => self.bool()?.map(|end| event.end_process = end).is_some(),
                Field::Error => self.error()?.map(|error| event.error = error).is_some(),
                Field::Value if seen & Field::Function as u8 != 0 => {
                    self.value(event)?;
                    true
                }
                Field::Value => {
                    value_at = Some(self.notation.byte_offset());
                    let piece = self.notation.piece()?;
                    self.notation.finish(&piece)?;
                    true
                }
            };
            if there {
                seen |= field as u8;
            }
        }
        if let Some(at) = value_at {
            let behind = std::mem::replace(&mut self.notation, N::starting_at(self.bytes, at));
            self.value(event)?;
            self.notation = behind;
        }
        Ok(seen)
    }

    fn utf8(&mut self, bytes: &'a [u8]) -> Result<&'a str, Malformed> {
        std::str::from_utf8(bytes).map_err(|_| Malformed {
            byte_offset: self.notation.byte_offset().saturating_sub(bytes.len()),
            cut_off: false,
            reason: "not UTF-8".into(),
        })
    }

    /// A field none of ours, kept as JSON text.
    fn extra(&mut self, name: &str) -> Result<(), Malformed> {
        let piece = self.notation.piece()?;
        let mut text = String::new();
        write_json(&mut self.notation, piece, &mut text)?;
        self.chunk.extra(extra_name(name), &text);
        Ok(())
    }

    #[inline]
    fn natural(&mut self) -> Result<Option<u64>, Malformed> {
        match self.notation.integer() {
            Some(integer @ 0..) => Ok(Some(integer as u64)),
            Some(_) => {
                self.odd(Oddity::FieldUnreadable);
                Ok(None)
            }
            None => {
                let piece = self.notation.piece()?;
                self.unreadable(&piece)?;
                Ok(None)
            }
        }
    }

    /// A field's value of the wrong kind: nil says nothing, anything else is odd.
    #[cold]
    fn unreadable(&mut self, piece: &Piece<'a>) -> Result<(), Malformed> {
        if *piece != Piece::Nil {
            self.odd(Oddity::FieldUnreadable);
        }
        self.notation.finish(piece)
    }

    #[inline]
    fn event_type(&mut self) -> Result<Option<EventType>, Malformed> {
        let event_type = match self.notation.word() {
            Some(b"invoke") => EventType::Invoke,
            Some(b"ok") => EventType::Ok,
            Some(b"fail") => EventType::Fail,
            Some(b"info") => EventType::Info,
            Some(_) => {
                self.odd(Oddity::FieldUnreadable);
                return Ok(None);
            }
            None => {
                let piece = self.notation.piece()?;
                self.unreadable(&piece)?;
                return Ok(None);
            }
        };
        Ok(Some(event_type))
    }

    #[inline]
    fn process(&mut self) -> Result<Option<u32>, Malformed> {
        match self.notation.integer() {
            Some(number) => Ok(Some(self.chunk.processes.integer(number))),
            None => self.named_process(),
        }
    }

    fn named_process(&mut self) -> Result<Option<u32>, Malformed> {
        Ok(Some(match self.notation.piece()? {
            Piece::Integer(number) => self.chunk.processes.integer(number),
            Piece::Word(name) => self.chunk.processes.text(name),
            Piece::Text(name) => self.chunk.processes.text(&name),
            Piece::Nil => return Ok(None),
            other => {
                let name = edn_text(&mut self.notation, other)?;
                self.chunk.processes.text(&name)
            }
        }))
    }

    #[inline]
    fn function(&mut self) -> Result<Option<u32>, Malformed> {
        let Some(name) = self.notation.word() else { return self.odd_function() };
        let known = FUNCTIONS.iter().position(|function| function.name().as_bytes() == name);
        match known {
            Some(known) => Ok(Some(known as u32)),
            None => {
                let name = self.utf8(name)?;
                Ok(Some(self.chunk.function(name)))
            }
        }
    }

    fn odd_function(&mut self) -> Result<Option<u32>, Malformed> {
        Ok(Some(match self.notation.piece()? {
            Piece::Text(name) => self.chunk.function(&name),
            Piece::Nil => return Ok(None),
            other => {
                let name = edn_text(&mut self.notation, other)?;
                self.chunk.function(&name)
            }
        }))
    }

    fn bool(&mut self) -> Result<Option<bool>, Malformed> {
        let piece = self.notation.piece()?;
        if let Piece::Bool(bool) = piece {
            return Ok(Some(bool));
        }
        self.unreadable(&piece)?;
        Ok(None)
    }

    fn error(&mut self) -> Result<Option<u32>, Malformed> {
        match self.notation.piece()? {
            Piece::Nil => Ok(None),
            piece => {
                let words = words(&mut self.notation, piece)?;
                Ok(Some(self.chunk.errors.text(&words)))
            }
        }
    }

    fn value(&mut self, event: &mut EventCell) -> Result<(), Malformed> {
        let shape = shape(&*self.chunk, event.function);
        if matches!(shape, ValueShape::Mops) && self.notation.take(b'[') {
            event.value_nil = false;
            return self.mops();
        }
        let at = self.notation.byte_offset();
        let piece = self.notation.piece()?;
        event.value_nil = piece == Piece::Nil;
        match (shape, piece) {
            (_, Piece::Nil) => Ok(()),
            (ValueShape::Mops, Piece::Seq) => self.mops(),
            (ValueShape::Keys, Piece::Seq) => self.keys(),
            (shape, piece) => {
                // An assign's or debug's completion may well be a map.
                if matches!(shape, ValueShape::Mops) {
                    self.odd(Oddity::ValueUnreadable);
                }
                self.notation.finish(&piece)?;
                let mut text = String::new();
                let mut again = N::starting_at(self.bytes, at);
                let piece = again.piece()?;
                write_json(&mut again, piece, &mut text)?;
                self.chunk.extra("value", &text);
                Ok(())
            }
        }
    }

    fn keys(&mut self) -> Result<(), Malformed> {
        loop {
            let piece = self.notation.piece()?;
            if piece == Piece::Close {
                return Ok(());
            }
            let key = self.key(piece)?;
            self.chunk.bound.push(key);
        }
    }

    fn mops(&mut self) -> Result<(), Malformed> {
        loop {
            if self.notation.take(b'[') {
                self.mop()?;
                continue;
            }
            if self.notation.take(b']') {
                return Ok(());
            }
            match self.notation.piece()? {
                Piece::Seq => self.mop()?,
                Piece::Close => return Ok(()),
                Piece::Tag(_) => self.odd(Oddity::TagIgnored),
                other => {
                    self.odd(Oddity::MopUnknown);
                    self.notation.finish(&other)?;
                }
            }
        }
    }

    fn mop(&mut self) -> Result<(), Malformed> {
        let depth = self.notation.depth();
        let whole = match self.notation.word() {
            Some(b"send") => self.send()?,
            Some(b"poll") => self.poll()?,
            Some(b"append") => self.append()?,
            Some(b"r") => self.read()?,
            _ => false,
        };
        let closed = self.notation.depth() < depth || self.notation.take(b']');
        if !whole || (!closed && self.notation.piece()? != Piece::Close) {
            self.odd(Oddity::MopUnknown);
            self.notation.leave(depth - 1)?;
        }
        Ok(())
    }

    /// Whether it was one; its end is still to come.
    #[inline]
    fn send(&mut self) -> Result<bool, Malformed> {
        let Some(key) = self.mop_key()? else { return Ok(false) };
        if let Some((offset, value)) = self.notation.pair() {
            let value = self.integer_value(value);
            self.chunk.send(key, value, Some(offset), true);
            return Ok(true);
        }
        if let Some(value) = self.notation.integer() {
            let value = self.integer_value(value);
            self.chunk.send(key, value, None, false);
            return Ok(true);
        }
        self.odd_send(key)
    }

    /// The key of a micro-operation; absent where it ends instead.
    #[inline]
    fn mop_key(&mut self) -> Result<Option<u32>, Malformed> {
        if let Some(key) = self.notation.integer() {
            return Ok(Some(self.chunk.keys.integer(key)));
        }
        match self.notation.piece()? {
            Piece::Close => Ok(None),
            piece => self.key(piece).map(Some),
        }
    }

    #[cold]
    fn odd_send(&mut self, key: u32) -> Result<bool, Malformed> {
        let mut piece = self.notation.piece()?;
        while matches!(piece, Piece::Tag(_)) {
            self.odd(Oddity::TagIgnored);
            piece = self.notation.piece()?;
        }
        match piece {
            Piece::Close => Ok(false),
            Piece::Integer(value) => {
                let value = self.integer_value(value);
                self.chunk.send(key, value, None, false);
                Ok(true)
            }
            Piece::Seq => {
                let Some((offset, value)) = self.record()? else { return Ok(false) };
                if offset.is_none() {
                    self.odd(Oddity::OffsetMissing);
                }
                self.chunk.send(key, value, offset, true);
                Ok(true)
            }
            other => {
                let value = self.odd_value(other)?;
                self.chunk.send(key, value, None, false);
                Ok(true)
            }
        }
    }

    /// An offset and a value, the bracket before them already taken; absent where it is something
    /// else, of which the rest is passed over.
    fn record(&mut self) -> Result<Option<(Option<i64>, i64)>, Malformed> {
        let depth = self.notation.depth();
        let offset = match self.notation.piece()? {
            Piece::Integer(offset) => Some(offset),
            Piece::Nil => None,
            _ => {
                self.notation.leave(depth - 1)?;
                return Ok(None);
            }
        };
        let piece = self.notation.piece()?;
        if piece == Piece::Close {
            return Ok(None);
        }
        let value = match piece {
            Piece::Integer(value) => self.integer_value(value),
            other => self.odd_value(other)?,
        };
        let whole = self.notation.piece()? == Piece::Close;
        self.notation.leave(depth - 1)?;
        Ok(whole.then_some((offset, value)))
    }

    #[inline]
    fn poll(&mut self) -> Result<bool, Malformed> {
        loop {
            if self.notation.take(b'{') {
                self.runs()?;
                return Ok(true);
            }
            if self.notation.take(b']') {
                self.chunk.poll_that_did_not_run();
                return Ok(true);
            }
            match self.notation.piece()? {
                Piece::Close | Piece::Nil => self.chunk.poll_that_did_not_run(),
                Piece::Map => self.runs()?,
                Piece::Tag(_) => {
                    self.odd(Oddity::TagIgnored);
                    continue;
                }
                other => {
                    self.notation.finish(&other)?;
                    return Ok(false);
                }
            }
            return Ok(true);
        }
    }

    #[inline]
    fn runs(&mut self) -> Result<(), Malformed> {
        self.chunk.begin_poll();
        let depth = self.notation.depth();
        while self.notation.depth() >= depth && !self.notation.take(b'}') {
            let key = match self.notation.integer_name() {
                Some(key) => self.chunk.keys.integer(key),
                None => match self.notation.piece()? {
                    Piece::Close => break,
                    piece => self.key(piece)?,
                },
            };
            self.run(key)?;
        }
        self.chunk.end_poll();
        Ok(())
    }

    #[inline]
    fn run(&mut self, key: u32) -> Result<(), Malformed> {
        while !self.notation.take(b'[') {
            match self.notation.piece()? {
                Piece::Seq => break,
                Piece::Nil => return Ok(()),
                Piece::Tag(_) => self.odd(Oddity::TagIgnored),
                // A name without a value, in EDN: the map has ended.
                Piece::Close => {
                    self.odd(Oddity::MopUnknown);
                    return Ok(());
                }
                other => {
                    self.odd(Oddity::MopUnknown);
                    return self.notation.finish(&other);
                }
            }
        }
        self.chunk.begin_run(key);
        loop {
            while let Some((offset, value)) = self.notation.pair() {
                let value = self.integer_value(value);
                self.chunk.record(offset, value);
            }
            if self.notation.take(b']') {
                break;
            }
            match self.notation.piece()? {
                Piece::Close => break,
                Piece::Seq => match self.record()? {
                    Some((offset, value)) => {
                        if offset.is_none() {
                            self.odd(Oddity::OffsetMissing);
                        }
                        self.chunk.record_without_offset(offset, value);
                    }
                    None => self.odd(Oddity::MopUnknown),
                },
                other => {
                    self.odd(Oddity::MopUnknown);
                    self.notation.finish(&other)?;
                }
            }
        }
        self.chunk.end_run();
        Ok(())
    }

    fn append(&mut self) -> Result<bool, Malformed> {
        let Some(key) = self.mop_key()? else { return Ok(false) };
        let value = match self.notation.piece()? {
            Piece::Close => return Ok(false),
            Piece::Integer(value) => self.integer_value(value),
            other => self.odd_value(other)?,
        };
        self.chunk.append(key, value);
        Ok(true)
    }

    fn read(&mut self) -> Result<bool, Malformed> {
        let Some(key) = self.mop_key()? else { return Ok(false) };
        match self.notation.piece()? {
            Piece::Close | Piece::Nil => self.chunk.read(key, None),
            Piece::Seq => {
                let start = self.chunk.lists.len();
                loop {
                    let value = match self.notation.integer() {
                        Some(value) => self.integer_value(value),
                        None => match self.notation.piece()? {
                            Piece::Close => break,
                            Piece::Integer(value) => self.integer_value(value),
                            other => self.odd_value(other)?,
                        },
                    };
                    self.chunk.list_value(value);
                }
                self.chunk.read(key, Some(start));
            }
            other => {
                self.notation.finish(&other)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    #[inline]
    fn key(&mut self, piece: Piece<'a>) -> Result<u32, Malformed> {
        match piece {
            Piece::Integer(key) => Ok(self.chunk.keys.integer(key)),
            other => self.odd_key(other),
        }
    }

    fn odd_key(&mut self, piece: Piece<'a>) -> Result<u32, Malformed> {
        if let Piece::Text(text) = &piece
            && N::NAMES_ARE_STRINGS
            && let Ok(integer) = text.parse::<i64>()
        {
            return Ok(self.chunk.keys.integer(integer));
        }
        self.odd(Oddity::KeyNotInteger);
        let name = self.named(piece)?;
        Ok(self.chunk.keys.text(&name))
    }

    /// The text that stands for a key or value that is no integer. JSON cannot have keywords as
    /// names, so a string that looks like one is one.
    fn named(&mut self, mut piece: Piece<'a>) -> Result<String, Malformed> {
        while matches!(piece, Piece::Tag(_)) {
            self.odd(Oddity::TagIgnored);
            piece = self.notation.piece()?;
        }
        match &piece {
            Piece::Text(text) if N::NAMES_ARE_STRINGS && text.starts_with(':') => {
                Ok(text.clone().into_owned())
            }
            _ => edn_text(&mut self.notation, piece),
        }
    }

    #[inline]
    fn integer_value(&mut self, integer: i64) -> i64 {
        self.chunk.value(integer)
    }

    #[cold]
    fn odd_value(&mut self, piece: Piece<'a>) -> Result<i64, Malformed> {
        self.odd(Oddity::ValueNotInteger);
        let text = self.named(piece)?;
        Ok(self.chunk.intern(&text))
    }
}

/// What every event should say.
const EXPECTED: u8 = Field::Index as u8
    | Field::Time as u8
    | Field::Type as u8
    | Field::Process as u8
    | Field::Function as u8;

#[inline]
fn field(name: &[u8]) -> Option<Field> {
    Some(match name {
        b"index" => Field::Index,
        b"time" => Field::Time,
        b"type" => Field::Type,
        b"process" => Field::Process,
        b"f" => Field::Function,
        b"value" => Field::Value,
        b"error" => Field::Error,
        b"end-process?" | b"end_process" => Field::EndProcess,
        _ => return None,
    })
}

/// Fields that EDN and JSON call otherwise: EDN's name, then JSON's.
pub(crate) const FIELD_NAMES: [(&str, &str); 3] = [
    ("seek-to-beginning?", "seek_to_beginning"),
    ("poll-ms", "poll_ms"),
    ("rebalance-log", "rebalance_log"),
];

/// The name an extra has in columns: JSON's.
fn extra_name(name: &str) -> &str {
    FIELD_NAMES.iter().find(|(edn, _)| *edn == name).map_or(name, |(_, json)| json)
}

/// What a function's values are made of.
fn shape(chunk: &Chunk, function: u32) -> ValueShape {
    match chunk.function_name(function) {
        "send" | "poll" | "txn" | "read" | "write" => ValueShape::Mops,
        "assign" | "subscribe" | "debug-topic-partitions" => ValueShape::Keys,
        _ => ValueShape::Any,
    }
}
