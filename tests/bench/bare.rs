//! What autoprof's SSH stands on, with nothing around it: the lower bounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lab::Lab;
use russh::client::{Config, Handle, Handler, connect_stream};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKey, load_secret_key};
use russh::{ChannelMsg, Preferred, cipher};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

/// As many at a time as autoprof's default.
const FORKS: usize = 64;

/// Takes any host for the one that it is: they are the lab's.
struct Trusting;

impl Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKey) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// Connects to every host and runs `true` there; milliseconds.
pub fn connect_all(lab: &Lab) -> f64 {
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let key = key(lab);
    let began = Instant::now();
    runtime.block_on(async {
        let each = lab.hosts().iter().enumerate().map(|(nth, _)| {
            let key = Arc::clone(&key);
            async move {
                let session = connect(lab, nth + 1, key).await;
                read(&session, "true").await;
            }
        });
        futures_util::stream::iter(each).buffer_unordered(FORKS).collect::<Vec<()>>().await
    });
    began.elapsed().as_secs_f64() * 1e3
}

/// Reads a file of the first host by `cat`, on one thread; milliseconds, without those for the connection, and bytes.
pub fn cat(lab: &Lab, path: &str) -> (f64, u64) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let session = connect(lab, 1, key(lab)).await;
        let began = Instant::now();
        let bytes = read(&session, &format!("cat {path}")).await;
        (began.elapsed().as_secs_f64() * 1e3, bytes)
    })
}

fn key(lab: &Lab) -> Arc<PrivateKey> {
    Arc::new(load_secret_key(lab.identity(), None).expect("the lab's key"))
}

async fn connect(lab: &Lab, number: usize, key: Arc<PrivateKey>) -> Handle<Trusting> {
    let preferred = Preferred { cipher: [cipher::AES_128_GCM].to_vec().into(), ..Preferred::DEFAULT };
    let config = Config {
        preferred,
        nodelay: true,
        window_size: 16 << 20,
        inactivity_timeout: Some(Duration::from_secs(120)),
        ..Config::default()
    };
    let stream = TcpStream::connect(std::net::SocketAddr::V4(lab[number].address())).await.expect("a host of the lab");
    stream.set_nodelay(true).expect("a socket option");
    let mut session = connect_stream(Arc::new(config), stream, Trusting).await.expect("a connection");
    let login = session.authenticate_publickey(lab.user(), PrivateKeyWithHashAlg::new(key, None)).await;
    assert!(login.expect("an answer").success(), "the lab's key lets in");
    session
}

/// Runs a command to its end; the bytes that it wrote.
async fn read(session: &Handle<Trusting>, command: &str) -> u64 {
    let mut channel = session.channel_open_session().await.expect("a channel");
    channel.exec(true, command).await.expect("a command");
    let mut bytes = 0;
    while let Some(message) = channel.wait().await {
        if let ChannelMsg::Data { data } = message {
            bytes += data.len() as u64;
        }
    }
    bytes
}
