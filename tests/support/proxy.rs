//! A TCP proxy that loses, holds back or lets through what goes by: how a network fails at a chosen moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What happens to the first COMMIT that goes by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AtCommit {
    /// The server never gets it: the connection breaks before.
    LoseQuestion,
    /// The server does it, and its answer is lost with the connection.
    LoseAnswer,
    /// The server gets a ROLLBACK in its place.
    RollBack,
    /// It waits until [`Proxy::release`].
    Hold,
    /// It goes by.
    Pass,
}

/// A proxy before a server; ends with the test's runtime.
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    server: AtomicU16,
    at_commit: AtCommit,
    done: AtomicBool,
    silent: Notify,
    cut: Notify,
    orphans: AtomicBool,
    reached: Notify,
    released: Notify,
}

impl Proxy {
    pub async fn start(server: u16, at_commit: AtCommit) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            server: AtomicU16::new(server),
            at_commit,
            done: AtomicBool::new(false),
            silent: Notify::new(),
            cut: Notify::new(),
            orphans: AtomicBool::new(false),
            reached: Notify::new(),
            released: Notify::new(),
        });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, shared.clone()));
            }
        });
        Self { port, state }
    }

    /// From now on nothing comes through the connections that there are, and the server's ends of them are closed: as a
    /// firewall does that has forgotten them. Those of the client stay open, and hear nothing. New ones work.
    pub fn silence(&self) {
        self.state.silent.notify_waiters();
    }

    /// Breaks the connections that there are. `orphans`: the server is not told, and its ends of them live on. New ones work.
    pub fn cut(&self, orphans: bool) {
        self.state.orphans.store(orphans, Ordering::SeqCst);
        self.state.cut.notify_waiters();
    }

    /// Sends new connections to the server on this port, as a service does whose primary has changed.
    pub fn point_to(&self, server: u16) {
        self.state.server.store(server, Ordering::SeqCst);
    }

    /// Waits until a COMMIT is held.
    pub async fn reached(&self) {
        self.state.reached.notified().await;
    }

    /// Lets the COMMIT go on.
    pub fn release(&self) {
        self.state.released.notify_one();
    }
}

async fn relay(mut client: TcpStream, state: Arc<State>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", state.server.load(Ordering::SeqCst))).await?;
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    let mut silent = std::pin::pin!(state.silent.notified());
    let mut cut = std::pin::pin!(state.cut.notified());
    loop {
        tokio::select! {
            () = &mut silent => {
                drop(server);
                let () = std::future::pending().await;
                return Ok(());
            }
            () = &mut cut => {
                drop(client);
                if state.orphans.load(Ordering::SeqCst) {
                    let () = std::future::pending().await;
                }
                return Ok(());
            }
            read = client.read(&mut up) => {
                let chunk = &up[..read?];
                if chunk.is_empty() {
                    return Ok(());
                }
                // A message of the simple protocol: Q, four bytes of length, text.
                let commits = chunk.get(5..).is_some_and(|text| text.starts_with(b"COMMIT"));
                if commits && !state.done.swap(true, Ordering::SeqCst) {
                    match state.at_commit {
                        AtCommit::LoseQuestion => return Ok(()),
                        AtCommit::LoseAnswer => {
                            server.write_all(chunk).await?;
                            // Its answer is there, and is dropped.
                            let _ = server.read(&mut down).await?;
                            return Ok(());
                        }
                        AtCommit::RollBack => {
                            let rest = chunk.get(11..).unwrap_or_default();
                            server.write_all(&[&chunk[..5], b"ABORT ", rest].concat()).await?;
                            continue;
                        }
                        AtCommit::Pass => {}
                        AtCommit::Hold => {
                            state.reached.notify_one();
                            state.released.notified().await;
                        }
                    }
                }
                server.write_all(chunk).await?;
            }
            read = server.read(&mut down) => {
                let chunk = &down[..read?];
                if chunk.is_empty() {
                    return Ok(());
                }
                client.write_all(chunk).await?;
            }
        }
    }
}
