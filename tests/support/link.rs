//! A way to the API server that can be cut: nothing gets through then, nothing is refused, and what was sent arrives once it is
//! mended, as over a network that is away for a while.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A relay before the cluster's API server, and a kubeconfig that goes by it.
pub struct Link {
    state: watch::Sender<State>,
    kubeconfig: PathBuf,
}

#[derive(Clone, Copy)]
struct State {
    whole: bool,
    /// How often it has forgotten its connections.
    forgot: usize,
}

impl Link {
    /// Listens on a port of its own; ends with the test's runtime.
    pub async fn to(kubeconfig: &Path) -> Self {
        let text = std::fs::read_to_string(kubeconfig).expect("the cluster's kubeconfig");
        let mut config: serde_yaml::Value = serde_yaml::from_str(&text).expect("a kubeconfig");
        let cluster = &mut config["clusters"][0]["cluster"];
        let server: url::Url = cluster["server"].as_str().expect("a server").parse().expect("its address");
        let host = server.host_str().expect("a host").to_owned();
        let upstream = format!("{host}:{}", server.port_or_known_default().expect("a port"));

        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        cluster["server"] = format!("https://127.0.0.1:{port}").into();
        // The certificate is the server's, not the relay's.
        cluster["tls-server-name"] = host.into();
        let file = std::env::temp_dir().join(format!("belay-link-{}.yaml", uuid::Uuid::new_v4().simple()));
        std::fs::write(&file, serde_yaml::to_string(&config).expect("a kubeconfig")).expect("a file for it");

        let state = watch::Sender::new(State { whole: true, forgot: 0 });
        let theirs = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, upstream.clone(), theirs.subscribe()));
            }
        });
        Self { state, kubeconfig: file }
    }

    /// The kubeconfig that goes by it.
    pub fn kubeconfig(&self) -> &str {
        self.kubeconfig.to_str().expect("a path of text")
    }

    /// From now on nothing gets through.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.whole = false);
    }

    /// What was held back arrives, and all that follows.
    pub fn mend(&self) {
        self.state.send_modify(|state| state.whole = true);
    }

    /// What is opened from now on gets through; of what was open nothing is ever heard again, as behind a firewall that has forgotten
    /// its connections.
    pub fn forget(&self) {
        self.state.send_modify(|state| *state = State { whole: true, forgot: state.forgot + 1 });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

async fn relay(mut client: TcpStream, upstream: String, mut state: watch::Receiver<State>) -> std::io::Result<()> {
    let of = state.borrow().forgot;
    let through = move |state: &State| state.whole && state.forgot == of;
    state.wait_for(through).await.map_err(std::io::Error::other)?;
    let mut server = TcpStream::connect(upstream).await?;
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        // What was read goes on only over a link that is whole.
        tokio::select! {
            read = client.read(&mut up) => {
                let chunk = &up[..read?];
                state.wait_for(through).await.map_err(std::io::Error::other)?;
                server.write_all(chunk).await?;
                if chunk.is_empty() {
                    return Ok(());
                }
            }
            read = server.read(&mut down) => {
                let chunk = &down[..read?];
                state.wait_for(through).await.map_err(std::io::Error::other)?;
                client.write_all(chunk).await?;
                if chunk.is_empty() {
                    return Ok(());
                }
            }
        }
    }
}
