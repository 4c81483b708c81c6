//! Turns events, or a whole history, into JSON lines or EDN.
//!
//! JSON lines are what a run records, one event a line as it happens; EDN is what Jepsen and
//! elle-cli read. Both say the same; `history::read` reads both.
//!
//! Never: opens a file.

use std::io::{self, Write};

use edn::{Scanner, Shape, write_integer, write_string};
use rustc_hash::FxHashMap;

use super::columns::{History, KeyId, MopRef, Op, PollRef, RunRef, Value};
use super::event::{Event, EventType, EventValue, Function, Mop, Process};
use super::read::Format;
use super::read::grammar::FIELD_NAMES;
use super::read::json::Json;
use super::read::notation::{Notation, Piece};
use super::read::text::{edn_text, is_word, write_edn, write_json, write_json_string};

/// How much is gathered before it is handed to a file.
const FLUSH_BYTES: usize = 1 << 18;

/// Appends one event as one line.
pub fn write_event(event: &Event, format: Format, out: &mut Vec<u8>) {
    let mut pen = Pen::new(format, out);
    pen.head(event.index, event.time_ns, event.event_type, &event.process, &event.function);
    pen.field("value", "value");
    match &event.value {
        EventValue::Nil => pen.nil(),
        EventValue::Json(text) => pen.json(text),
        EventValue::Keys(keys) => {
            pen.open(Shape::Vector);
            keys.iter().for_each(|key| pen.integer(*key));
            pen.close();
        }
        EventValue::Mops(mops) => {
            pen.open(Shape::Vector);
            mops.iter().for_each(|mop| pen.mop(mop));
            pen.close();
        }
    }
    let extras = event.extra.iter().map(|(name, text)| (&**name, &**text));
    pen.tail(event.error.as_deref(), event.end_process, extras);
}

/// Writes a whole history, a line an event, in the order of their indices.
///
/// Invocations say what their completions say, without what came back.
pub fn write_history(history: &History, format: Format, out: &mut impl Write) -> io::Result<()> {
    let mut events = Vec::with_capacity(2 * history.len());
    for op in history.ops() {
        events.extend(op.invoke_index().map(|index| (index, op.row, EventType::Invoke)));
        events.extend(op.complete_index().map(|index| (index, op.row, op.kind())));
    }
    events.sort_unstable_by_key(|(index, row, event_type)| (*index, *event_type, *row));
    let mut text = Vec::new();
    for (index, row, event_type) in events {
        let mut pen = Pen::new(format, &mut text);
        pen.op(history, history.op(row), index, event_type);
        if text.len() >= FLUSH_BYTES {
            out.write_all(&text)?;
            text.clear();
        }
    }
    out.write_all(&text)
}

/// Writes either notation.
struct Pen<'o> {
    out: &'o mut Vec<u8>,
    json: bool,
    /// The open collections, each with the number of forms in it so far.
    open: Vec<(Shape, usize)>,
}

impl<'o> Pen<'o> {
    fn new(format: Format, out: &'o mut Vec<u8>) -> Self {
        Self { out, json: format != Format::Edn, open: Vec::with_capacity(8) }
    }

    fn separate(&mut self) {
        let Some((shape, forms)) = self.open.last_mut() else { return };
        let name = *shape == Shape::Map && forms.is_multiple_of(2);
        if *forms > 0 {
            let separator: &[u8] = match (self.json, *shape == Shape::Map, name) {
                (true, true, false) => b":",
                (true, ..) => b",",
                (false, true, true) => b", ",
                (false, ..) => b" ",
            };
            self.out.extend_from_slice(separator);
        }
        *forms += 1;
    }

    fn open(&mut self, shape: Shape) {
        self.separate();
        self.out.push(if shape == Shape::Map { b'{' } else { b'[' });
        self.open.push((shape, 0));
    }

    fn close(&mut self) {
        let shape = self.open.pop().map(|(shape, _)| shape);
        self.out.push(if shape == Some(Shape::Map) { b'}' } else { b']' });
    }

    fn raw(&mut self, text: &str) {
        self.separate();
        self.out.extend_from_slice(text.as_bytes());
    }

    fn nil(&mut self) {
        self.raw(if self.json { "null" } else { "nil" });
    }

    fn integer(&mut self, integer: i64) {
        self.separate();
        write_integer(self.out, integer);
    }

    fn text(&mut self, text: &str) {
        self.separate();
        if self.json {
            let mut quoted = String::with_capacity(text.len() + 2);
            write_json_string(&mut quoted, text);
            self.out.extend_from_slice(quoted.as_bytes());
        } else {
            write_string(self.out, text);
        }
    }

    /// A name out of a closed set, or one fit for a keyword.
    fn word(&mut self, name: &str) {
        self.separate();
        self.out.push(if self.json { b'"' } else { b':' });
        self.out.extend_from_slice(name.as_bytes());
        if self.json {
            self.out.push(b'"');
        }
    }

    fn field(&mut self, edn: &str, json: &str) {
        self.word(if self.json { json } else { edn });
    }

    /// A value that is JSON text; one that is not, is a string.
    fn json(&mut self, text: &str) {
        self.separate();
        if self.json {
            let one_line =
                !text.contains(['\n', '\r']) && whole(Json::starting_at(text.as_bytes(), 0));
            if one_line {
                return self.out.extend_from_slice(text.as_bytes());
            }
        }
        let mut scanner = Json::starting_at(text.as_bytes(), 0);
        let mut translated = Vec::new();
        let mut as_json = String::new();
        let read = scanner.piece().and_then(|piece| match self.json {
            true => write_json(&mut scanner, piece, &mut as_json),
            false => write_edn(&mut scanner, piece, &mut edn::Writer::new(&mut translated)),
        });
        match (read, self.json) {
            (Ok(()), true) => self.out.extend_from_slice(as_json.as_bytes()),
            (Ok(()), false) => self.out.extend_from_slice(&translated),
            (Err(_), true) => {
                let mut quoted = String::new();
                write_json_string(&mut quoted, text);
                self.out.extend_from_slice(quoted.as_bytes());
            }
            (Err(_), false) => write_string(self.out, text),
        }
    }

    /// A name that may be anything: a keyword where it can be one, EDN as it stands, or a string.
    fn name(&mut self, name: &str) {
        if self.json {
            self.text(name);
        } else if is_word(name) && name.parse::<i64>().is_err() {
            self.word(name);
        } else {
            self.words(name);
        }
    }

    /// An error's words; those that are an EDN collection or keyword, written as the reader would print
    /// them, are written as such.
    fn words(&mut self, words: &str) {
        let form = words.starts_with(['[', '{', '(', '#', ':']);
        if !self.json && form && prints_as_itself(words) {
            self.raw(words);
        } else {
            self.text(words);
        }
    }

    fn head(
        &mut self,
        index: u64,
        time_ns: u64,
        event_type: EventType,
        process: &Process,
        function: &Function,
    ) {
        self.open(Shape::Map);
        self.word("index");
        self.integer(index as i64);
        self.word("time");
        self.integer(time_ns as i64);
        self.word("type");
        self.word(event_type.name());
        self.word("process");
        match process {
            Process::Client(number) => self.integer(*number),
            Process::Named(name) => self.name(name),
        }
        self.word("f");
        match function {
            Function::Other(name) => self.name(name),
            known => self.word(known.name()),
        }
    }

    fn tail<'a>(
        &mut self,
        error: Option<&str>,
        end_process: bool,
        extras: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        if let Some(error) = error {
            self.word("error");
            self.words(error);
        }
        if end_process {
            self.field("end-process?", "end_process");
            self.raw("true");
        }
        for (name, text) in extras {
            let edn = FIELD_NAMES.iter().find(|(_, json)| *json == name).map(|(edn, _)| *edn);
            self.name(if self.json { name } else { edn.unwrap_or(name) });
            self.json(text);
        }
        self.close();
        self.out.push(b'\n');
    }

    fn mop(&mut self, mop: &Mop) {
        self.open(Shape::Vector);
        match mop {
            Mop::Send { key, value, offset, run } => {
                self.word("send");
                self.integer(*key);
                if *run || offset.is_some() {
                    self.open(Shape::Vector);
                    self.offset(*offset);
                    self.integer(*value);
                    self.close();
                } else {
                    self.integer(*value);
                }
            }
            Mop::Poll { records } => {
                self.word("poll");
                if let Some(runs) = records {
                    self.open(Shape::Map);
                    for (key, records) in runs {
                        self.integer_name(*key);
                        self.open(Shape::Vector);
                        for (offset, value) in records {
                            self.open(Shape::Vector);
                            self.integer(*offset);
                            self.integer(*value);
                            self.close();
                        }
                        self.close();
                    }
                    self.close();
                }
            }
        }
        self.close();
    }

    fn offset(&mut self, offset: Option<i64>) {
        match offset {
            Some(offset) => self.integer(offset),
            None => self.nil(),
        }
    }

    /// An integer as a map's name: JSON has only strings there.
    fn integer_name(&mut self, integer: i64) {
        self.separate();
        let quote: &[u8] = if self.json { b"\"" } else { b"" };
        self.out.extend_from_slice(quote);
        write_integer(self.out, integer);
        self.out.extend_from_slice(quote);
    }

    fn op(&mut self, history: &History, op: Op<'_>, index: u64, event_type: EventType) {
        let invoked = event_type == EventType::Invoke;
        let time_ns = if invoked { op.invoke_ns() } else { op.complete_ns() };
        self.head(index, time_ns, event_type, history.process(op.process()), op.function());
        self.field("value", "value");
        let told = !invoked || op.complete_index().is_none();
        if op.mops().len() > 0 {
            self.open(Shape::Vector);
            for mop in op.mops() {
                self.mop_of(history, mop, told);
            }
            self.close();
        } else if !op.bound_keys().is_empty() {
            self.open(Shape::Vector);
            op.bound_keys().iter().for_each(|key| self.key(history, *key));
            self.close();
        } else {
            match op.extra("value").filter(|_| told) {
                Some(text) => self.json(text),
                None => self.nil(),
            }
        }
        let extras = op.extras().filter(|(name, _)| told && *name != "value");
        let error = op.error().filter(|_| !invoked);
        self.tail(error, op.ends_process() && !invoked, extras);
    }

    fn mop_of(&mut self, history: &History, mop: MopRef<'_>, told: bool) {
        self.open(Shape::Vector);
        match mop {
            MopRef::Send { key, value, offset } => {
                self.word("send");
                self.key(history, key);
                match offset {
                    Some(offset) if told => {
                        self.open(Shape::Vector);
                        self.integer(offset);
                        self.value(history, value);
                        self.close();
                    }
                    _ => self.value(history, value),
                }
            }
            MopRef::Poll(poll) => {
                self.word("poll");
                if told && poll.ran() {
                    self.runs(history, poll);
                }
            }
            MopRef::Append { key, value } => {
                self.word("append");
                self.key(history, key);
                self.value(history, value);
            }
            MopRef::Read { key, values } => {
                self.word("r");
                self.key(history, key);
                match values.filter(|_| told) {
                    Some(values) => {
                        self.open(Shape::Vector);
                        values.iter().for_each(|value| self.value(history, *value));
                        self.close();
                    }
                    None => self.nil(),
                }
            }
        }
        self.close();
    }

    /// A poll's records. One key's runs, wherever they stand in the poll, become one.
    fn runs(&mut self, history: &History, poll: PollRef<'_>) {
        let mut order: Vec<KeyId> = Vec::new();
        let mut of_key: FxHashMap<KeyId, Vec<RunRef<'_>>> = FxHashMap::default();
        for run in poll.runs() {
            let runs = of_key.entry(run.key).or_default();
            if runs.is_empty() {
                order.push(run.key);
            }
            runs.push(run);
        }
        self.open(Shape::Map);
        for key in order {
            let name = history.key_name(key);
            match (self.json, name.parse()) {
                (_, Ok(integer)) => self.integer_name(integer),
                (true, Err(_)) => self.text(&json_key(name)),
                (false, Err(_)) => self.raw(name),
            }
            self.open(Shape::Vector);
            for run in &of_key[&key] {
                for (offset, value) in run.records() {
                    self.open(Shape::Vector);
                    self.offset(offset);
                    self.value(history, value);
                    self.close();
                }
            }
            self.close();
        }
        self.close();
    }

    fn key(&mut self, history: &History, key: KeyId) {
        let name = history.key_name(key);
        match (self.json, name.parse()) {
            (_, Ok(integer)) => self.integer(integer),
            (true, Err(_)) => self.text(&json_key(name)),
            (false, Err(_)) => self.raw(name),
        }
    }

    fn value(&mut self, history: &History, value: Value) {
        if value.0 < Value::INTERNED_MIN {
            return self.integer(value.0);
        }
        let name = history.value_name(value);
        if !self.json {
            return self.raw(&name);
        }
        let mut scanner = Scanner::new(name.as_bytes());
        let mut text = String::new();
        let piece = Notation::piece(&mut scanner).unwrap_or(Piece::Nil);
        match write_json(&mut scanner, piece, &mut text) {
            Ok(()) => self.raw(&text),
            Err(_) => self.text(&name),
        }
    }
}

/// A key that is no integer, as a JSON string: the same as a map's name and elsewhere.
fn json_key(name: &str) -> String {
    match Scanner::new(name.as_bytes()).pull() {
        Ok(Some(edn::Token::String(text))) => text.decode().into_owned(),
        _ => name.to_owned(),
    }
}

/// Whether a text is just one value.
fn whole<'a>(mut notation: impl Notation<'a>) -> bool {
    let mut one = || {
        let piece = notation.piece()?;
        if matches!(piece, Piece::End | Piece::Close) {
            return Ok(false);
        }
        notation.finish(&piece)?;
        Ok::<_, super::read::notation::Malformed>(notation.piece()? == Piece::End)
    };
    one().unwrap_or(false)
}

/// Whether `words` are one EDN value that the reader gives back letter by letter.
fn prints_as_itself(words: &str) -> bool {
    let mut notation = Scanner::new(words.as_bytes());
    let mut printed = || {
        let piece = notation.piece()?;
        let text = edn_text(&mut notation, piece)?;
        Ok::<_, super::read::notation::Malformed>((notation.piece()? == Piece::End).then_some(text))
    };
    printed().is_ok_and(|text| text.as_deref() == Some(words))
}
