//! One script as messages: what comes before it, the script, what comes behind it, and where in that the server
//! stopped. It is one message, unless the script brings data: each COPY … FROM STDIN is one of its own, because its
//! data follow it.

use std::ops::Range;

use super::apply::RunContext;
use super::attempt::TIDY;
use super::engine::Engine;
use super::ledger_text;
use super::marked::Marked;
use super::quote::{Ident, Literal, Nullable};
use crate::api::TransactionMode;
use crate::script::{Script, occurrences};

/// What one script, or one statement of it, is sent as, in order.
pub(super) struct Message<'a> {
    pub pieces: Vec<Piece<'a>>,
}

/// One message: the server answers it before the next one is sent.
pub(super) enum Piece<'a> {
    Sql(Sql),
    Copy(Copy<'a>),
}

impl Piece<'_> {
    /// The character of what is sent, from 1, that a byte of it, from 1, belongs to.
    pub fn character_at(&self, byte: usize) -> usize {
        let text = match self {
            Self::Sql(sql) => sql.text.as_str(),
            Self::Copy(copy) => copy.sql,
        };
        text.char_indices().take_while(|(at, _)| *at < byte).count()
    }
}

/// SQL text, and the way back from what the server says about it to the script.
pub(super) struct Sql {
    pub text: String,
    prefix_characters: usize,
    prefix_statements: usize,
    /// The byte of the script that this piece begins at.
    at: usize,
    script: Marked,
    constraints: bool,
    /// The statement, counted from 0, that writes the ledger's row.
    pub ledger_statement: Option<usize>,
}

/// COPY … FROM STDIN and its data.
pub(super) struct Copy<'a> {
    /// The number of the statement in its script, from 0.
    pub statement: usize,
    pub sql: &'a str,
    pub data: &'a [u8],
    /// The byte of the script that the statement begins at, and its data.
    at: usize,
    data_at: usize,
}

/// Where in a message something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Belay's own statements before the script.
    Before,
    /// The script: the number of its statement, from 0.
    Script(usize),
    /// The check of deferred constraints behind it.
    Constraints,
    /// Belay's own statements behind that, the ledger's row among them.
    Behind,
}

/// Which part of a transaction a message is.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub opens: bool,
    pub closes: bool,
}

/// Belay's own statements around a script's, or around one of its statements.
pub(super) struct Around {
    pub before: Vec<String>,
    pub behind: Vec<String>,
    /// The first of those behind is the check of deferred constraints.
    pub constraints: bool,
    /// Which of those behind writes the ledger's row.
    pub ledger: usize,
}

impl Around {
    /// A transaction of its own, with its row in the ledger as its last statement, without the COMMIT.
    pub fn transaction(engine: &Engine, row: String) -> Self {
        let mut around = Self::new(engine, vec!["BEGIN".to_owned()], None, row, true);
        around.behind.extend(engine.own_settings());
        around
    }

    fn new(engine: &Engine, before: Vec<String>, release: Option<String>, row: String, closes: bool) -> Self {
        let mut behind = Vec::new();
        // Only at the end of the transaction: a later script may mend what an earlier one leaves open.
        if closes {
            behind.push("SET CONSTRAINTS ALL IMMEDIATE".to_owned());
        }
        // After that, so that what runs deferred runs as the script left the session, as with any other client.
        behind.extend(release);
        // Of what a script may have SET, a row minds nothing else: all in it is qualified, its operators too.
        behind.extend(engine.role());
        let ledger = behind.len();
        behind.push(row);
        Self { before, behind, constraints: closes, ledger }
    }
}

impl<'a> Message<'a> {
    /// The messages that run `script` in a transaction and write its row, without the COMMIT. `plain`: the session is
    /// as a script finds it.
    pub fn new(engine: &Engine, script: &'a Script, part: Part, plain: bool, try_: &Try<'_>) -> Self {
        let guard = Guard::of(script);
        let mut before = Vec::new();
        if part.opens {
            before.push("BEGIN".to_owned());
        }
        if !plain {
            before.extend(engine.clean_settings());
        }
        before.extend(engine.settings_of_try(try_.attempt));
        before.push(guard.set(try_.token));

        let row = row(engine, script, try_, &guard);
        let mut around = Around::new(engine, before, guard.release(try_.token), row, part.closes);
        if !part.closes {
            // A message is read by the settings that hold before it begins.
            around.behind.extend(engine.reset());
            around.behind.push(TIDY.to_owned());
        }
        Self::around(engine, script, 0..script.statements.len(), around)
    }

    /// One statement of a script, with nothing around it: for what takes no company.
    pub fn alone(engine: &Engine, script: &'a Script, number: usize) -> Self {
        let text = Text { script, plain: script.executable(), application: &engine.application, marks: false };
        let bytes = script.statements.get(number).map_or(0..0, |statement| statement.range.clone());
        Self { pieces: vec![Piece::Sql(text.sql(Vec::new(), bytes, number..number + 1))] }
    }

    /// One statement of Belay's own, for what may take as long as a script's.
    pub fn own(sql: String) -> Self {
        let sql = Sql {
            prefix_characters: sql.chars().count(),
            prefix_statements: 1,
            text: sql,
            at: 0,
            script: Marked::default(),
            constraints: false,
            ledger_statement: None,
        };
        Self { pieces: vec![Piece::Sql(sql)] }
    }

    /// These statements of a script, which stand one after the other in it.
    pub fn around(engine: &Engine, script: &'a Script, statements: Range<usize>, around: Around) -> Self {
        let all = statements == (0..script.statements.len());
        // A mark would take the place of a name that the script gives its session.
        let marks = all && occurrences(&script.text, "application_name").next().is_none();
        let text = Text { script, plain: script.executable(), application: &engine.application, marks };
        let (mut at, mut end) = (0, script.text.len());
        if !all {
            at = script.statements.get(statements.start).map_or(end, |statement| statement.range.start);
            end = statements.clone().last().and_then(|last| script.statements.get(last)).map_or(at, |s| s.range.end);
        }
        let mut pieces = Vec::new();
        let mut before = around.before;
        let mut next = statements.start;
        for number in statements.clone() {
            let Some((statement, data)) =
                script.statements.get(number).and_then(|statement| Some((statement, statement.copy_data.clone()?)))
            else {
                continue;
            };
            let mut sql = text.sql(std::mem::take(&mut before), at..statement.range.start, next..number);
            sql.announce(number, text.application);
            pieces.push(Piece::Sql(sql));
            pieces.push(Piece::Copy(Copy {
                statement: number,
                sql: script.statement_text(statement),
                data: script.text.as_bytes().get(data.clone()).unwrap_or_default(),
                at: statement.range.start,
                data_at: data.start,
            }));
            at = script.behind_copy(&data);
            end = end.max(at);
            next = number + 1;
        }
        let mut sql = text.sql(before, at..end, next..statements.end);
        sql.close(around.behind, around.constraints, around.ledger);
        pieces.push(Piece::Sql(sql));
        Self { pieces }
    }
}

/// A script's text, as pieces are made of it.
struct Text<'a> {
    script: &'a Script,
    plain: std::borrow::Cow<'a, str>,
    application: &'a str,
    /// Whether the statements' numbers stand between them.
    marks: bool,
}

impl Text<'_> {
    /// A piece of these bytes, which hold these statements.
    fn sql(&self, before: Vec<String>, bytes: Range<usize>, statements: Range<usize>) -> Sql {
        let at = bytes.start;
        let mut text = before.join(";");
        if !before.is_empty() {
            text.push_str(";\n");
        }
        let prefix_characters = text.chars().count();
        let marks = self.marks.then_some(self.application);
        let script = Marked::append(&mut text, self.script, &self.plain, bytes, statements, marks);
        Sql {
            text,
            prefix_characters,
            prefix_statements: before.len(),
            at,
            script,
            constraints: false,
            ledger_statement: None,
        }
    }
}

impl Sql {
    /// Says behind it which statement comes next, in a message of its own.
    fn announce(&mut self, number: usize, application: &str) {
        self.text.push_str("\n;");
        self.text.push_str(&super::marked::mark(application, number));
    }

    fn close(&mut self, behind: Vec<String>, constraints: bool, ledger: usize) {
        // On a line of its own: a script may end in a comment, or lack its last semicolon.
        self.text.push_str("\n;");
        self.text.push_str(&behind.join(";"));
        self.constraints = constraints;
        self.ledger_statement = Some(self.prefix_statements + self.script.answers() + ledger);
    }

    /// What runs after `completed` statements of it were answered.
    pub fn place(&self, completed: usize) -> Place {
        match completed.checked_sub(self.prefix_statements) {
            None => Place::Before,
            Some(done) => match self.script.statement(done) {
                Some(statement) => Place::Script(statement),
                None if done == self.script.answers() && self.constraints => Place::Constraints,
                None => Place::Behind,
            },
        }
    }

    /// The server's position in the text, as a character of the script, from 1. None: it is not in it.
    pub fn character(&self, script: &Script, position: usize) -> Option<usize> {
        let character = self.script.character(position.checked_sub(self.prefix_characters)?)?;
        Some(script.characters(self.at) + character)
    }
}

impl Copy<'_> {
    /// The server's position in the statement, as a character of the script, from 1.
    pub fn character(&self, script: &Script, position: usize) -> usize {
        script.characters(self.at) + position
    }

    /// The byte of the script where a line of the data begins; lines count from 1.
    pub fn line_at(&self, line: usize) -> usize {
        let before = self.data.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1));
        self.data_at + before.map(<[u8]>::len).sum::<usize>()
    }
}

/// One try to run one script.
pub(super) struct Try<'a> {
    pub run: &'a RunContext,
    pub mode: TransactionMode,
    /// From 1.
    pub attempt: u32,
    /// Random, so that no script can know it.
    pub token: &'a str,
    /// The name under which the session has the ledger's row prepared, if it may be written so.
    pub prepared: Option<&'a str>,
}

/// What tells, at the end of a message, that it is still in the transaction that it began in.
///
/// Scripts are parsed, and transaction control in them is refused, long before. This sees what slipped through, and
/// keeps it from getting a ledger row. What such a script committed stays committed.
enum Guard {
    /// A setting that lasts as long as the transaction, and costs nothing: no snapshot, so that the script may still
    /// SET TRANSACTION, and no subtransaction.
    Setting,
    /// For scripts that RESET ALL settings, be it in a body.
    Savepoint,
}

impl Guard {
    fn of(script: &Script) -> Self {
        let all = |at: usize| {
            let behind = script.text.as_bytes().get(at + "reset".len()..).unwrap_or_default().trim_ascii_start();
            behind.get(..3).is_some_and(|word| word.eq_ignore_ascii_case(b"ALL"))
        };
        match occurrences(&script.text, "reset").any(all) {
            true => Self::Savepoint,
            false => Self::Setting,
        }
    }

    fn set(&self, token: &str) -> String {
        match self {
            Self::Setting => format!("SET LOCAL belay.attempt = {}", Ident(token)),
            Self::Savepoint => format!("SAVEPOINT belay_{token}"),
        }
    }

    fn release(&self, token: &str) -> Option<String> {
        matches!(self, Self::Savepoint).then(|| format!("RELEASE SAVEPOINT belay_{token}"))
    }

    /// The row's condition, with the token as SQL has it. It also sets what tells, behind the COMMIT, that it was one: that goes
    /// back to what it was if the transaction is rolled back.
    fn holds(&self, token: &str) -> String {
        let value = match self {
            Self::Setting => "pg_catalog.current_setting('belay.attempt', true)",
            Self::Savepoint => token,
        };
        format!("pg_catalog.set_config('belay.committed', {value}, false) OPERATOR(pg_catalog.=) {token}")
    }
}

/// How long the message takes so far.
const SINCE_BEGIN: &str = "(extract(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) \
                           pg_catalog.statement_timestamp()) OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8";

/// The ledger's row, written only by a backend that holds the lock, in the transaction that the script began in.
fn row(engine: &Engine, script: &Script, try_: &Try<'_>, guard: &Guard) -> String {
    let token = Literal(try_.token).to_string();
    match (try_.prepared, guard) {
        (Some(name), Guard::Setting) => format!("EXECUTE {} ({}, {token})", Ident(name), script_values(script)),
        _ => insert_row(engine, script, said(try_.mode), try_.run, SINCE_BEGIN, &guard.holds(&token)),
    }
}

/// What the ledger calls it.
fn said(mode: TransactionMode) -> &'static str {
    match mode {
        TransactionMode::PerScript => "transaction",
        TransactionMode::AllPending => "shared-transaction",
    }
}

/// Prepares the row of any of the run's scripts whose guard is a setting: what [`row`] executes.
pub(super) fn prepare_row(engine: &Engine, name: &str, run: &RunContext, mode: TransactionMode) -> String {
    // What script_values gives, and the token.
    let script: Vec<_> = (1..=8).map(|number| format!("${number}")).collect();
    let values = row_values(&script.join(", "), said(mode), run);
    let row = insert(engine, &values, SINCE_BEGIN, &Guard::Setting.holds("$9"));
    format!("PREPARE {} ({}) AS {row}", Ident(name), ["pg_catalog.text"; 9].join(", "))
}

/// A script's row, if `condition` holds and this session holds the lock. `duration`: an expression, in milliseconds.
pub(super) fn insert_row(
    engine: &Engine,
    script: &Script,
    mode: &str,
    run: &RunContext,
    duration: &str,
    condition: &str,
) -> String {
    insert(engine, &row_values(&script_values(script), mode, run), duration, condition)
}

fn insert(engine: &Engine, values: &str, duration: &str, condition: &str) -> String {
    format!(
        "INSERT INTO {schema}.history (version, file_name, description, author, date, checksum, script, rollback, \
         mode, applied_by, run_id, duration_ms) SELECT {values}, {duration} WHERE {condition} AND {locked}",
        schema = Ident(&engine.target.history_schema),
        locked = engine.lock_is_held(),
    )
}

/// [`script_values`], mode, applied_by, run_id.
fn row_values(script: &str, mode: &str, run: &RunContext) -> String {
    format!("{script}, {}, {}, '{}'::pg_catalog.uuid", Literal(mode), Literal(&run.applied_by), run.id)
}

/// version, file_name, description, author, date, checksum, script, rollback: as a list of literals.
pub(super) fn script_values(script: &Script) -> String {
    let header = &script.header;
    let text = ledger_text::kept_text(script);
    let rollback = ledger_text::rollback(&script.rollback);
    format!(
        "{}, {}, {}, {}, {}, {}, {}, {}",
        Literal(script.version.as_written()),
        Literal(&script.file_name),
        Literal(script.title()),
        Nullable(header.author.as_deref()),
        Nullable(header.date.as_deref()),
        Literal(&script.checksum.to_string()),
        Literal(&text),
        Nullable(rollback.as_deref()),
    )
}
