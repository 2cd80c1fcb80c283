//! What one statement asks of the transaction that a script is run in.

use super::outside::{self, Outside};
use super::unsupported::UnsupportedKind;
use super::words::Words;
use super::{command, setting};

/// Whether PostgreSQL takes a statement inside a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Class {
    /// It runs in a transaction, and is undone with it.
    InTransaction,
    /// PostgreSQL refuses it in a transaction (SQLSTATE 25001).
    OutsideTransaction(Outside),
    /// It begins, ends, divides or shapes a transaction.
    TransactionControl,
}

impl Class {
    /// Whether it waits for old transactions, and keeps nobody waiting meanwhile.
    pub fn is_patient(&self) -> bool {
        matches!(self, Self::OutsideTransaction(outside) if outside.patient)
    }

    /// Whether PostgreSQL refuses it in a transaction.
    pub fn is_outside(&self) -> bool {
        matches!(self, Self::OutsideTransaction(_))
    }
}

/// What is told of a statement from its tokens.
pub(super) struct Classified {
    pub command: String,
    pub class: Class,
    /// Data lines follow it.
    pub copy_from_stdin: bool,
    /// Why Belay can't run it: kind, what, remedy.
    pub refusal: Option<(UnsupportedKind, String, &'static str)>,
}

/// What begins, ends or divides a transaction.
pub(super) const CONTROL: &[&str] = &[
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "SAVEPOINT",
    "RELEASE",
    "PREPARE TRANSACTION",
];

/// What shapes one.
const SHAPE: &[&str] = &["SET [LOCAL] TRANSACTION", "SET SESSION CHARACTERISTICS", "SET SESSION TRANSACTION"];

/// What a SELECT is called that does nothing but to SET.
pub(super) const SET_CONFIG: &str = "SELECT set_config";

pub(super) const NO_CONTROL: &str = "leave it out: Belay runs every script in a transaction of its own, which a BEGIN \
     as the first and a COMMIT as the last statement may show; what must be committed apart goes into a script of its \
     own";

/// The same in a script that is run outside a transaction, of which that is not true.
pub(super) const NO_CONTROL_OUTSIDE: &str = "take away the mark by which the script is run outside a transaction, and \
     all of it is run in one; or move what belongs together into a script of its own, without that mark";

pub(super) fn classify(words: &Words) -> Classified {
    let command = match setting::called(words) {
        Some(_) => SET_CONFIG.to_owned(),
        None => command::name(words),
    };
    let mut class = Class::InTransaction;
    let mut refusal = None;
    let mut copy_from_stdin = false;
    if let Some((outside, is_read)) = outside::read(words) {
        class = Class::OutsideTransaction(outside);
        if !is_read {
            refusal = Some((
                UnsupportedKind::Name,
                format!(
                    "the names in this {command} are not read, so that nothing would tell what a try of it has left"
                ),
                "write each name as it is, or in double quotes, not as U&\"…\"",
            ));
        }
    } else if CONTROL.iter().chain(SHAPE).any(|pattern| words.starts(pattern)) {
        class = Class::TransactionControl;
        refusal = Some((UnsupportedKind::TransactionControl, format!("{command} is transaction control"), NO_CONTROL));
    } else if words.starts("DISCARD ALL") {
        refusal = Some((
            UnsupportedKind::TransactionControl,
            "DISCARD ALL would drop the lock that keeps other writers out".to_owned(),
            "name what it is for: RESET ALL, DEALLOCATE ALL, DISCARD TEMP",
        ));
    } else if words.starts("COPY") {
        (copy_from_stdin, refusal) = copy(words);
    } else if (words.starts("SET") || command == SET_CONFIG)
        && let Some(name) = setting::taken(words)
    {
        refusal = Some((
            UnsupportedKind::Setting,
            format!(
                "this value of {name} would keep Belay from running the script as it was read, or from recording it"
            ),
            "leave the setting out of the script",
        ));
    }
    Classified { command, class, copy_from_stdin, refusal }
}

fn copy(words: &Words) -> (bool, Option<(UnsupportedKind, String, &'static str)>) {
    // PostgreSQL takes either word in either direction; and a table or a column may be called as a direction is.
    let with_client = |direction: &str| {
        let places = std::iter::successors(words.find(1, direction), |at| words.find(at + 1, direction));
        places.into_iter().any(|at| words.is(at + 1, "STDIN") || words.is(at + 1, "STDOUT"))
    };
    if with_client("FROM") {
        return (true, None);
    }
    if with_client("TO") {
        let what = "COPY … TO STDOUT sends data to whoever runs the script, and a migration has nobody to take it";
        return (false, Some((UnsupportedKind::CopyData, what.to_owned(), "leave it out")));
    }
    (false, None)
}
