//! Turns values into EDN text, spaced as Clojure prints it.

use crate::integer::write_integer;
use crate::token::Shape;

/// Appends EDN to a buffer; knows where blanks and commas belong.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// The open collections, each with the number of forms in it so far.
    open: Vec<(Shape, usize)>,
    after_tag: bool,
}

impl<'o> Writer<'o> {
    /// Appends to `out`.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, open: Vec::new(), after_tag: false }
    }

    /// Begins a collection.
    pub fn open(&mut self, shape: Shape) {
        self.separate();
        self.out.extend_from_slice(match shape {
            Shape::List => b"(",
            Shape::Vector => b"[",
            Shape::Map => b"{",
            Shape::Set => b"#{",
        });
        self.open.push((shape, 0));
    }

    /// Ends the innermost collection.
    pub fn close(&mut self) {
        let (shape, _) = self.open.pop().expect("as many collections end as begin");
        self.out.push(match shape {
            Shape::List => b')',
            Shape::Vector => b']',
            Shape::Map | Shape::Set => b'}',
        });
    }

    /// A whole number.
    pub fn integer(&mut self, value: i64) {
        self.separate();
        write_integer(self.out, value);
    }

    /// A string, escaped.
    pub fn string(&mut self, text: &str) {
        self.separate();
        write_string(self.out, text);
    }

    /// A keyword, of its name without the colon.
    pub fn keyword(&mut self, name: &str) {
        self.separate();
        self.out.push(b':');
        self.out.extend_from_slice(name.as_bytes());
    }

    /// A tag; the next form is its value.
    pub fn tag(&mut self, name: &str) {
        self.separate();
        self.out.push(b'#');
        self.out.extend_from_slice(name.as_bytes());
        self.after_tag = true;
    }

    /// `nil`.
    pub fn nil(&mut self) {
        self.raw("nil");
    }

    /// A form that is EDN already.
    pub fn raw(&mut self, form: &str) {
        self.separate();
        self.out.extend_from_slice(form.as_bytes());
    }

    fn separate(&mut self) {
        if self.after_tag {
            self.after_tag = false;
            self.out.push(b' ');
            return;
        }
        if let Some((shape, forms)) = self.open.last_mut() {
            if *shape == Shape::Map && *forms > 0 && forms.is_multiple_of(2) {
                self.out.push(b',');
            }
            if *forms > 0 {
                self.out.push(b' ');
            }
            *forms += 1;
        }
    }
}

/// Appends a string with its quotes, escaped as Clojure does; other control characters as `\u`.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            c if (c as u32) < 0x20 => {
                out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
