//! A server that behaves like the hub, and misbehaves on command.
//!
//! It serves the folders `ROOT/USER/NAME` as repositories: `/USER/NAME/resolve/REVISION/FILE`, large
//! files by a redirect to a signed address on another origin, `/api/models/…` with their SHA-256, of
//! small ones the git object; and as plain folders: `/files/USER/NAME/FILE`. `/-/fault?…`, `/-/log` and `/-/reset` command it
//! from a browser's tests.
#![allow(dead_code, clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod answer;
mod fault;
mod http;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

#[allow(unused_imports)] // Each user names its own part.
pub use fault::{Fault, Plan};

/// A running server. Its threads end with the process.
pub struct Hub {
    /// The address of the hub.
    pub endpoint: String,
    state: Arc<State>,
}

/// One request that was answered.
#[derive(Clone, Debug)]
pub struct Logged {
    pub path: String,
    pub status: u16,
    /// Bytes of the body that were sent.
    pub sent: u64,
    pub authorization: Option<String>,
    /// The request came to the server of signed addresses.
    pub is_signed: bool,
}

struct State {
    root: PathBuf,
    /// The origin of signed addresses.
    storage: SocketAddr,
    plan: Mutex<Plan>,
    log: Mutex<Vec<Logged>>,
    /// How many addresses were signed.
    signed: AtomicU64,
    /// How many `ETag`s of no file were given, so that no two answers have the same.
    changes: AtomicU64,
    /// Bytes of weights sent, of all requests.
    sent: AtomicU64,
    /// Answers that are under way.
    under_way: AtomicU64,
    /// The SHA-256 of files as they were at a time.
    hashes: Mutex<HashMap<(PathBuf, SystemTime), String>>,
}

impl Hub {
    /// Serves `root` on `port` of this machine (0: any), and signed addresses on another.
    pub fn start(root: &Path, port: u16) -> Self {
        let hub = TcpListener::bind(("127.0.0.1", port)).expect("a port is free");
        let storage = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = |listener: &TcpListener| listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            root: root.to_owned(),
            storage: address(&storage),
            plan: Mutex::default(),
            log: Mutex::default(),
            signed: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            hashes: Mutex::default(),
        });
        let endpoint = format!("http://{}", address(&hub));
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || converse(&state, stream, is_storage));
                }
            });
        }
        Self { endpoint, state }
    }

    /// From here on, does this wrong.
    pub fn set(&self, plan: Plan) {
        *self.state.plan.lock().unwrap() = plan;
    }

    /// From here on, behaves; forgets what it did. Answers to whoever is gone end first, so that their bytes are not
    /// counted after it.
    pub fn reset(&self) {
        let started = Instant::now();
        while self.state.under_way.load(Ordering::SeqCst) > 0
            && started.elapsed() < Duration::from_secs(1)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.state.reset();
    }

    /// What was answered since the last reset.
    pub fn log(&self) -> Vec<Logged> {
        self.state.log.lock().unwrap().clone()
    }

    /// Bytes of weights sent since the last reset, those of broken answers too.
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// The newest commit of a repository.
    pub fn commit(&self, repository: &str) -> String {
        answer::commit(&self.state.root.join(repository))
    }

    /// The URL of a repository as a plain folder.
    pub fn folder(&self, repository: &str) -> String {
        format!("{}/files/{repository}", self.endpoint)
    }
}

impl State {
    fn reset(&self) {
        *self.plan.lock().unwrap() = Plan::default();
        self.log.lock().unwrap().clear();
        self.sent.store(0, Ordering::SeqCst);
    }

    /// Counts bytes that are about to be sent, as many of them as keep the sum within `total`, and says how many that
    /// are. Other connections send at the same time.
    fn count_up_to(&self, total: u64, wanted: usize) -> usize {
        let granted = |sent: u64| total.saturating_sub(sent).min(wanted as u64);
        let before = self
            .sent
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |sent| {
                Some(sent + granted(sent))
            })
            .unwrap_or_else(|sent| sent);
        granted(before) as usize
    }
}

/// Answers the requests of one connection.
fn converse(state: &State, stream: TcpStream, is_storage: bool) {
    let mut connection = http::Connection::new(stream);
    while let Some(request) = connection.read() {
        state.under_way.fetch_add(1, Ordering::SeqCst);
        let answered = answer::answer(state, &mut connection, &request, is_storage);
        state.under_way.fetch_sub(1, Ordering::SeqCst);
        if answered.is_err() {
            return;
        }
    }
}
