//! What is written is read again; whatever is read, nothing panics.

use edn::{DEPTH_MAX, Error, Number, Scanner, Shape, Token, Writer};
use proptest::prelude::*;

/// A value as the tests see it.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Nil,
    Integer(i64),
    String(String),
    Keyword(String),
    Tagged(String, Box<Value>),
    Collection(Shape, Vec<Value>),
}

fn values() -> impl Strategy<Value = Value> {
    let name = "[a-z][a-z0-9?!*/.-]{0,6}";
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<i64>().prop_map(Value::Integer),
        (-99..99_i64).prop_map(Value::Integer),
        any::<String>().prop_map(Value::String),
        name.prop_map(Value::Keyword),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let many = || prop::collection::vec(inner.clone(), 0..5);
        let shape = prop_oneof![Just(Shape::List), Just(Shape::Vector), Just(Shape::Set)];
        prop_oneof![
            (shape, many()).prop_map(|(shape, all)| Value::Collection(shape, all)),
            prop::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(|pairs| {
                let all = pairs.into_iter().flat_map(|(name, value)| [name, value]).collect();
                Value::Collection(Shape::Map, all)
            }),
            (name, inner.clone()).prop_map(|(name, value)| Value::Tagged(name, value.into())),
        ]
    })
}

fn write(value: &Value, out: &mut Writer<'_>) {
    match value {
        Value::Nil => out.nil(),
        Value::Integer(integer) => out.integer(*integer),
        Value::String(text) => out.string(text),
        Value::Keyword(name) => out.keyword(name),
        Value::Tagged(name, value) => {
            out.tag(name);
            write(value, out);
        }
        Value::Collection(shape, all) => {
            out.open(*shape);
            all.iter().for_each(|value| write(value, out));
            out.close();
        }
    }
}

fn read(scanner: &mut Scanner<'_>) -> Result<Option<Value>, Error> {
    Ok(Some(match scanner.pull()? {
        Some(Token::Nil) => Value::Nil,
        Some(Token::Integer(integer)) => Value::Integer(integer),
        Some(Token::String(text)) => Value::String(text.decode().into_owned()),
        Some(Token::Keyword(name)) => Value::Keyword(name.to_owned()),
        Some(Token::Tag(name)) => {
            let value = read(scanner)?.expect("a tag has a value");
            Value::Tagged(name.to_owned(), value.into())
        }
        Some(Token::Open(shape)) => {
            let mut all = Vec::new();
            while let Some(value) = read(scanner)? {
                all.push(value);
            }
            Value::Collection(shape, all)
        }
        Some(Token::Close) | None => return Ok(None),
        Some(other) => panic!("{other:?} was never written"),
    }))
}

/// Pulls everything; the tokens' number, or the error.
fn pull_all(bytes: &[u8]) -> Result<usize, Error> {
    let mut scanner = Scanner::new(bytes);
    let mut tokens = 0;
    while let Some(token) = scanner.pull()? {
        if let Token::String(text) = token {
            let _ = text.decode();
        }
        assert!(scanner.depth() <= DEPTH_MAX);
        tokens += 1;
    }
    Ok(tokens)
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(values in prop::collection::vec(values(), 0..5)) {
        let mut text = Vec::new();
        for value in &values {
            write(value, &mut Writer::new(&mut text));
            text.push(b'\n');
        }
        let mut scanner = Scanner::new(&text);
        for value in &values {
            prop_assert_eq!(read(&mut scanner).expect("EDN"), Some(value.clone()));
        }
        prop_assert_eq!(scanner.pull(), Ok(None));
        let mut skipping = Scanner::new(&text);
        for _ in &values {
            prop_assert!(skipping.skip_form().expect("EDN").is_some());
        }
        prop_assert_eq!(skipping.skip_form(), Ok(None));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = pull_all(&bytes) {
            prop_assert!(error.byte_offset <= bytes.len(), "{:?}", error);
        }
    }

    #[test]
    fn no_text_of_ednish_bytes_makes_it_panic(text in "[\\[\\]{}()\"\\\\#_:;,0-9a-fNMru/.+^ \n-]{0,60}") {
        if let Err(error) = pull_all(text.as_bytes()) {
            prop_assert!(error.byte_offset <= text.len(), "{:?}", error);
            if error.is_cut_off() {
                prop_assert_eq!(error.byte_offset, text.len());
            }
        }
    }

    #[test]
    fn a_cut_text_is_cut_off_or_whole(value in values(), at: prop::sample::Index) {
        let mut text = Vec::new();
        let vector = Value::Collection(Shape::Vector, vec![value]);
        write(&vector, &mut Writer::new(&mut text));
        let cut = at.index(text.len());
        match pull_all(&text[..cut]) {
            Ok(tokens) => prop_assert!(cut == 0 && tokens == 0),
            // A string may be cut inside a character, an escape inside its digits.
            Err(error) => prop_assert!(error.is_cut_off() || error.byte_offset <= cut),
        }
    }
}

#[test]
fn numbers_beyond_integers_keep_their_text() {
    let mut scanner = Scanner::new(b"1e3 1/3");
    assert_eq!(scanner.pull(), Ok(Some(Token::Number(Number::Float, "1e3"))));
    assert_eq!(scanner.pull(), Ok(Some(Token::Number(Number::Ratio, "1/3"))));
}

#[test]
fn a_million_discards_need_no_stack() {
    let text = "#_1 ".repeat(1_000_000);
    assert_eq!(pull_all(text.as_bytes()), Ok(0));
    let text = "#_".repeat(1_000_000);
    assert!(pull_all(text.as_bytes()).expect_err("nothing to discard").is_cut_off());
}
