use std::io::IsTerminal;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit::Exit;
use super::output;

/// A token that Ctrl-C and SIGTERM cancel, so that the server is asked to stop and the script in hand is rolled back.
/// A second signal ends the process: the server finds out by itself, and rolls back too.
pub fn listen() -> CancellationToken {
    let token = CancellationToken::new();
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return token;
    };
    let cancel = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancel.is_cancelled() {
                std::process::exit(Exit::Interrupted.code().into());
            }
            // The line of the script in hand is not ended yet.
            if std::io::stdout().is_terminal() {
                output::tell("");
            }
            output::tell("Cancelling on the server. Once more, and Belay does not wait for its answer.");
            cancel.cancel();
        }
    });
    token
}
