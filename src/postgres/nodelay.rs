//! Connections whose small messages are sent at once.
//!
//! sqlx 0.9.0 leaves Nagle's algorithm on: a message that follows another, before the server has anything to answer, waits until
//! the server's kernel acknowledges the one before, which takes 40 ms. That is twice in a TLS handshake, and once in each COPY.
//! sqlx's next release turns it off again (transact-rs/sqlx#4336), and then this file goes. Until then there is no other way to the
//! socket than through the process's own open files.

use std::future::poll_fn;
use std::os::fd::{BorrowedFd, RawFd};
use std::pin::pin;

use rustix::net::sockopt;

/// Connects, and turns Nagle's algorithm off as soon as there is a socket.
pub(super) async fn at_once<T>(connect: impl Future<Output = T>) -> T {
    let mut connect = pin!(connect);
    poll_fn(|context| {
        let polled = connect.as_mut().poll(context);
        if polled.is_pending() {
            turn_off();
        }
        polled
    })
    .await
}

/// Turns it off for every socket of this process: which is the new one, nothing tells, and none is the worse for it.
fn turn_off() {
    let Ok(files) = std::fs::read_dir("/dev/fd") else { return };
    files.filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok()).for_each(turn_off_one);
}

#[expect(unsafe_code, reason = "sqlx lends nobody its socket")]
fn turn_off_one(number: RawFd) {
    // SAFETY: it was open a moment ago, and is used for this alone. Should another thread have closed it meanwhile, it is not open,
    // or another file, for which the option is either unknown, or as good as for this one.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    let _ = sockopt::set_tcp_nodelay(socket, true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_sends_at_once_as_soon_as_it_is_connected() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = at_once(tokio::net::TcpStream::connect(server.local_addr().unwrap())).await.unwrap();
        assert!(client.nodelay().unwrap());
    }
}
