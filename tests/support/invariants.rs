//! What holds for every script that was read, whatever its bytes: for the tests, and for the fuzzer.

use super::script::{Class, History, Rollback, Script};

/// Reads bytes as a script, and panics where a promise is not kept. The script, if the bytes are one.
pub fn hold_for(bytes: &[u8]) -> Option<std::sync::Arc<Script>> {
    let script = read(bytes.to_vec())?;
    pieces_are_in_order_and_between_them_is_nothing_to_run(&script);
    places_are_those_an_editor_counts(&script);
    what_is_sent_has_every_character_in_its_place(&script);
    the_checksum_is_blind_to_line_ends(&script);
    if script.unsupported.is_none() {
        a_piece_read_alone_is_the_same_piece(&script);
    }
    if let Rollback::Sql(sql) = &script.rollback {
        let alone = read(sql.clone().into_bytes()).expect("a rollback is text");
        assert_eq!(alone.unsupported, None, "a rollback that may be run");
    }
    Some(script)
}

/// A script, or None where the bytes are no text.
pub fn read(bytes: Vec<u8>) -> Option<std::sync::Arc<Script>> {
    let history = History::from_files([("1_script.sql".to_owned(), bytes)]).ok()?;
    history.latest().cloned()
}

fn pieces_are_in_order_and_between_them_is_nothing_to_run(script: &Script) {
    let sent = script.executable();
    let mut joined = String::new();
    let mut at = 0;
    let mut is_data_before = false;
    for statement in &script.statements {
        assert!(at <= statement.range.start && statement.range.start < statement.range.end, "in order, and not empty");
        joined.push_str(&script.text[at..statement.range.start]);
        joined.push_str(script.statement_text(statement));
        if script.unsupported.is_none() {
            let between = &sent[at..statement.range.start];
            assert!(is_nothing(behind(between, is_data_before)), "{between:?}");
        }
        at = statement.range.end;
        is_data_before = statement.copy_data.is_some();
        if let Some(data) = &statement.copy_data {
            assert!(at < data.start && data.start <= data.end, "data stand behind their COPY");
            joined.push_str(&script.text[at..data.end]);
            at = data.end;
        }
    }
    joined.push_str(&script.text[at..]);
    assert_eq!(joined, script.text);
    if script.unsupported.is_none() {
        assert!(is_nothing(behind(&sent[at..], is_data_before)), "{:?}", &sent[at..]);
    }
}

/// Behind the line that ends data, if data stand before it.
fn behind(text: &str, is_data_before: bool) -> &str {
    text.strip_prefix("\\.").filter(|_| is_data_before).unwrap_or(text)
}

/// Whether the server would run nothing of a text: white space, comments, semicolons. Written apart from the reader.
fn is_nothing(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0u32);
    while at < bytes.len() {
        match (&bytes[at..bytes.len().min(at + 2)], depth) {
            (b"/*", _) => (at, depth) = (at + 2, depth + 1),
            (b"*/", 1..) => (at, depth) = (at + 2, depth - 1),
            (_, 1..) => at += 1,
            (b"--", 0) => at += bytes[at..].iter().take_while(|byte| !matches!(byte, b'\n' | b'\r')).count(),
            ([b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C | b';', ..], 0) => at += 1,
            _ => return false,
        }
    }
    depth == 0
}

fn places_are_those_an_editor_counts(script: &Script) {
    for (number, statement) in script.statements.iter().enumerate().take(50) {
        let before = &script.text[..statement.range.start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        assert_eq!((statement.start.line as usize, statement.start.column as usize), (line, column));
        let character = before.chars().count() + 1;
        assert_eq!(script.byte_of_char(character), statement.range.start);
        assert_eq!(script.position_of_char(character), statement.start);
        assert_eq!(script.statement_at(statement.range.start).map(|(number, _)| number), Some(number + 1));
    }
    if let Some(unsupported) = &script.unsupported {
        assert!(unsupported.position.line as usize <= script.text.matches('\n').count() + 1);
        assert!(!unsupported.what.is_empty() && !unsupported.remedy.is_empty());
    }
}

fn what_is_sent_has_every_character_in_its_place(script: &Script) {
    let sent = script.executable();
    assert_eq!((sent.len(), sent.chars().count()), (script.text.len(), script.text.chars().count()));
    for statement in &script.statements {
        assert_eq!(&sent[statement.range.clone()], script.statement_text(statement));
    }
}

fn the_checksum_is_blind_to_line_ends(script: &Script) {
    // Where data begin and end is a matter of lines. One of two carriage returns is no line's end.
    let ends = script.text.contains("\r\n") && !script.text.contains("\r\r");
    if !ends || script.statements.iter().any(|statement| statement.copy_data.is_some()) {
        return;
    }
    let unix = read(script.text.replace("\r\n", "\n").into_bytes()).expect("a script is text");
    assert_eq!(unix.checksum, script.checksum);
}

fn a_piece_read_alone_is_the_same_piece(script: &Script) {
    for statement in script.statements.iter().take(50) {
        let text = script.statement_text(statement);
        // The semicolon keeps a byte order mark in its place.
        let mut alone = format!(";{text};\n");
        if let Some(data) = &statement.copy_data {
            alone.push_str(&script.text[data.clone()]);
            alone.push_str("\\.\n");
        }
        let alone = read(alone.into_bytes()).expect("a piece of text is text");
        let [one] = alone.statements.as_slice() else { panic!("{text:?} became {:?}", alone.statements) };
        assert_eq!(alone.statement_text(one), text);
        assert_eq!((&one.command, &one.class), (&statement.command, &statement.class));
        // Alone it can't be one of a mixture; all else holds for it too.
        if statement.class == Class::InTransaction {
            assert_eq!(alone.unsupported, None, "{text:?}");
        }
    }
}
