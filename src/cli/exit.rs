use std::process::ExitCode;

/// How a command ends. Scripts and pipelines rely on these numbers: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It is done, or there was nothing to do.
    Done,
    /// Refused, or failed: the same command will not succeed until something is changed.
    Failed,
    /// The arguments are wrong.
    Usage,
    /// Something is to be done, and was only shown.
    Pending,
    /// The server, the advisory lock or a script's locks were not to be had in time: the same command may
    /// succeed later.
    NotNow,
    /// Ctrl-C or SIGTERM: cancelled on the server, and rolled back.
    Interrupted,
}

/// What --help says of them.
pub const HELP: &str = "\
Exit codes:
  0    done, or nothing to do
  1    refused or failed: the message says what to change, and what is applied
  2    wrong arguments
  3    something is to be done, and was only shown (plan --exit-code, status --exit-code, repair)
  4    not now: the server, its advisory lock or a script's locks were not to be had in time; try again
  130  interrupted: cancelled on the server; the message says what is applied";

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Pending => 3,
            Self::NotNow => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
