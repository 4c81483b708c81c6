use super::*;

fn tokens(text: &str) -> Result<Vec<String>, Error> {
    let mut scanner = Scanner::new(text.as_bytes());
    let mut all = Vec::new();
    while let Some(token) = scanner.pull()? {
        all.push(match token {
            Token::String(text) => format!("{:?}", text.decode()),
            other => format!("{other:?}"),
        });
    }
    Ok(all)
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(tokens(text).expect(text), expected, "{text}");
}

fn check_error(text: &str, byte_offset: usize, kind: ErrorKind) {
    assert_eq!(tokens(text), Err(Error { byte_offset, kind }), "{text}");
}

#[test]
fn numbers_of_every_kind_are_told_apart() {
    check("0 -1 +7 42N", &["Integer(0)", "Integer(-1)", "Integer(7)", "Integer(42)"]);
    check("0x7b -0x10 017 2r101", &["Integer(123)", "Integer(-16)", "Integer(15)", "Integer(5)"]);
    check("9223372036854775808", &["Number(BigInteger, \"9223372036854775808\")"]);
    check("-9223372036854775808N", &["Integer(-9223372036854775808)"]);
    check(
        "1.5 1e9 ##Inf",
        &["Number(Float, \"1.5\")", "Number(Float, \"1e9\")", "Number(Float, \"##Inf\")"],
    );
    check(
        "1.5M 3M 22/7",
        &["Number(Decimal, \"1.5M\")", "Number(Decimal, \"3M\")", "Number(Ratio, \"22/7\")"],
    );
    check("- + -a", &["Symbol(\"-\")", "Symbol(\"+\")", "Symbol(\"-a\")"]);
    check_error(" 12x", 1, ErrorKind::BadNumber);
    check_error("1/", 0, ErrorKind::BadNumber);
}

#[test]
fn strings_and_characters_are_unescaped() {
    check(r#""a\"b\\c\n\u0041\ud83d\ude00\101é""#, &["\"a\\\"b\\\\c\\nA😀Aé\""]);
    check(
        r"[\a \newline \( \u0041 \o101 \é \,]",
        &[
            "Open(Vector)",
            "Char('a')",
            "Char('\\n')",
            "Char('(')",
            "Char('A')",
            "Char('A')",
            "Char('é')",
            "Char(',')",
            "Close",
        ],
    );
    check(r#"#"a\"\d+" 1"#, &["Pattern(\"a\\\\\\\"\\\\d+\")", "Integer(1)"]);
    check_error(r#""a\q""#, 2, ErrorKind::BadEscape);
    check_error(r"\nope", 0, ErrorKind::BadCharacter);
    check_error(r#""abc\"#, 5, ErrorKind::UnexpectedEnd);
}

#[test]
fn keywords_symbols_and_tags_keep_their_names() {
    check(
        ":a :b/c-d? nil true false foo.Bar$baz__1",
        &[
            "Keyword(\"a\")",
            "Keyword(\"b/c-d?\")",
            "Nil",
            "Bool(true)",
            "Bool(false)",
            "Symbol(\"foo.Bar$baz__1\")",
        ],
    );
    check(
        "#jepsen.history.Op{:index 0}",
        &["Tag(\"jepsen.history.Op\")", "Open(Map)", "Keyword(\"index\")", "Integer(0)", "Close"],
    );
    check(
        "#object[a.B 0x1f \"x\"]",
        &["Tag(\"object\")", "Open(Vector)", "Symbol(\"a.B\")", "Integer(31)", "\"x\"", "Close"],
    );
    check("#:a{:b 1}", &["Tag(\":a\")", "Open(Map)", "Keyword(\"b\")", "Integer(1)", "Close"]);
    check("#{1 (2)}", &["Open(Set)", "Integer(1)", "Open(List)", "Integer(2)", "Close", "Close"]);
    check_error("[#foo]", 5, ErrorKind::WrongCloser(b']'));
    check_error("#foo", 4, ErrorKind::UnexpectedEnd);
    check_error("#(1)", 0, ErrorKind::BadDispatch(b'('));
}

#[test]
fn comments_and_discarded_forms_leave_no_token() {
    check("1 ; two\n3;", &["Integer(1)", "Integer(3)"]);
    check("#_1 2 #_[3 #_4 {5 6}] 7", &["Integer(2)", "Integer(7)"]);
    check("#_ #_ 1 2 3", &["Integer(3)"]);
    check("#_#foo #_a [1] 2", &["Integer(2)"]);
    check("[#_1]", &["Open(Vector)", "Close"]);
    check_error("[#_]", 3, ErrorKind::WrongCloser(b']'));
    check_error("#_", 2, ErrorKind::UnexpectedEnd);
}

#[test]
fn brackets_must_match() {
    check_error("[1 2)", 4, ErrorKind::WrongCloser(b')'));
    check_error("]", 0, ErrorKind::WrongCloser(b']'));
    check_error("{:a [1", 6, ErrorKind::UnexpectedEnd);
    check_error(&"[".repeat(DEPTH_MAX + 1), DEPTH_MAX, ErrorKind::TooDeep);
    assert_eq!(
        tokens(&("[".repeat(DEPTH_MAX) + &"]".repeat(DEPTH_MAX))).unwrap().len(),
        2 * DEPTH_MAX
    );
}

#[test]
fn pairs_are_taken_only_whole() {
    let pair = |text: &str| {
        let mut scanner = Scanner::new(text.as_bytes());
        let pair = scanner.integer_pair();
        (pair, &text[scanner.byte_offset()..] == text || pair.is_some())
    };
    assert_eq!(pair("[40 1] [41 2]"), (Some((40, 1)), true));
    assert_eq!(pair("[-3 12345678901]"), (Some((-3, 12_345_678_901)), true));
    for text in
        ["[40 1 2]", "[40 1N]", "[nil 1]", "[40]", "[40  1]", "[40 :a]", "[[40 1]]", "[40 1"]
    {
        assert_eq!(pair(text), (None, true), "{text}");
    }
}

#[test]
fn skipped_forms_are_given_as_they_stand() {
    let mut scanner = Scanner::new(b" #a [1 {2 3}] :x ");
    assert_eq!(scanner.skip_form().unwrap(), Some(&b"#a [1 {2 3}]"[..]));
    assert_eq!(scanner.skip_form().unwrap(), Some(&b":x"[..]));
    assert_eq!(scanner.skip_form().unwrap(), None);
}
