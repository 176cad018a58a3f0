//! A model from a server that behaves, and from one that does not.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use aim_web::config::Config;
use aim_web::device::Device;
use aim_web::engine::{self, Engine, HostTensor};
use aim_web::precision::Precision;
use aim_web::weights::checkpoint::Checkpoint;
use aim_web::weights::remote::client::Client;
use aim_web::weights::remote::{
    Event, Failure, Location, RemoteModel, Repository, Request, Response, Status, Transport, Wanted,
};
use aim_web::weights::shards::manifest::CHUNK;
use aim_web::{Error, ErrorKind};
use common::generator::{self, Generated};
use pollster::block_on;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// Four chunks, of which the probe at blocks 0 and 2 needs two.
fn config() -> Config {
    Config {
        img_size: [28, 28],
        patch_size: [14, 14],
        num_channels: 3,
        embed_dim: 256,
        num_blocks: 10,
        num_heads: 2,
        num_classes: 10,
        probe_layers: vec![0, 2],
        quantization: None,
    }
}

/// The files of a generated model, as a hub repository holds them.
fn repository() -> BTreeMap<String, Vec<u8>> {
    let config = config();
    let checkpoint = Generated::new("remote", &config);
    let tensors: Vec<_> = checkpoint
        .tensors()
        .iter()
        .map(|info| {
            let values = generator::tensor("remote", &info.name, &info.shape);
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (info.name.clone(), info.shape.clone(), bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the shape fits");
        (name.clone(), view)
    });
    let weights = safetensors::serialize(views, None).expect("it has a form");
    assert!(weights.len() as u64 > 3 * CHUNK, "{}", weights.len());
    BTreeMap::from([
        ("config.json".to_owned(), config.to_json().into_bytes()),
        ("model.safetensors".to_owned(), weights),
    ])
}

/// What a server does wrong with the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Each answer ends after so many bytes.
    Cut(usize),
    /// An answer that is longer breaks off, and hardly any of what came before is left.
    Lost(usize),
    /// This many answers are errors first.
    Refuse(u16, u32),
    /// This many answers are 429 first, with this `Retry-After`.
    Busy(&'static str, u32),
    /// This many answers are 429 first, with this `RateLimit`.
    Limited(&'static str, u32),
    /// The signed address has expired, this many times.
    Expired(u32),
    /// The connection fails, this many times.
    Unreachable(u32),
    /// The whole file comes, whatever was asked for.
    NoRanges,
    /// Another range than the one asked for.
    WrongRange,
    /// No `Content-Range`.
    NoContentRange,
    /// The file changes after its first range.
    Changes,
    /// The file ends before its announced length.
    Shorter,
    /// A page in place of the weights.
    Html,
    /// The caller gives up after this many requests.
    Abort(u32),
}

struct Server {
    files: BTreeMap<String, Vec<u8>>,
    fault: Fault,
    requests: Cell<u32>,
    /// Bytes of weights sent.
    sent: Cell<u64>,
    waits: RefCell<Vec<Duration>>,
}

impl Server {
    fn new(fault: Fault) -> Self {
        Self {
            files: repository(),
            fault,
            requests: Cell::new(0),
            sent: Cell::new(0),
            waits: RefCell::default(),
        }
    }

    fn weights(&self, request: &Request) -> Result<Response, Failure> {
        let file = &self.files["model.safetensors"];
        let nth = self.requests.replace(self.requests.get() + 1);
        let range = request.range.clone().expect("weights are read in ranges");
        let end = range.end.min(file.len() as u64);
        let mut response = Response {
            status: 206,
            etag: Some("\"v1\"".to_owned()),
            content_range: Some(format!("bytes {}-{}/{}", range.start, end - 1, file.len())),
            body: file[range.start as usize..end as usize].to_vec(),
            ..Response::default()
        };
        match self.fault {
            Fault::Cut(most) => {
                response.body.truncate(most);
                response.cut = Some("connection reset".to_owned());
            }
            Fault::Lost(most) if response.body.len() > most => {
                response.body.truncate(1000);
                response.cut = Some("connection reset".to_owned());
            }
            Fault::Refuse(status, times) if nth < times => {
                return Ok(Response {
                    status,
                    retry_after: Some("7".to_owned()),
                    ..Response::default()
                });
            }
            Fault::Busy(retry_after, times) if nth < times => {
                return Ok(Response {
                    status: 429,
                    retry_after: Some(retry_after.to_owned()),
                    ..Response::default()
                });
            }
            Fault::Limited(rate_limit, times) if nth < times => {
                return Ok(Response {
                    status: 429,
                    rate_limit: Some(rate_limit.to_owned()),
                    ..Response::default()
                });
            }
            Fault::Expired(times) if nth < times => {
                return Ok(Response {
                    status: 403,
                    redirected_to: Some(
                        "https://storage.example/signed?X-Amz-Signature=0123".to_owned(),
                    ),
                    ..Response::default()
                });
            }
            Fault::Unreachable(times) if nth < times => {
                return Err(Failure::Network("no route to host".to_owned()));
            }
            Fault::NoRanges => {
                response.status = 200;
                response.content_range = None;
                response.body = file[..request.limit + 1].to_vec();
            }
            Fault::WrongRange => {
                response.content_range = Some(format!("bytes 1-{}/{}", end, file.len()));
            }
            Fault::NoContentRange => response.content_range = None,
            Fault::Changes if nth > 0 => response.etag = Some("\"v2\"".to_owned()),
            Fault::Shorter if range.start > 0 => {
                return Ok(Response {
                    status: 416,
                    ..Response::default()
                });
            }
            Fault::Html => {
                response.body = b"<!DOCTYPE html><title>Sorry</title>".to_vec();
                let len = response.body.len();
                response.content_range = Some(format!("bytes 0-{}/{len}", len - 1));
            }
            Fault::Abort(after) if nth >= after => return Err(Failure::Aborted),
            // Those whose time is over.
            Fault::None
            | Fault::Lost(_)
            | Fault::Refuse(..)
            | Fault::Busy(..)
            | Fault::Limited(..)
            | Fault::Expired(_)
            | Fault::Unreachable(_)
            | Fault::Changes
            | Fault::Shorter
            | Fault::Abort(_) => {}
        }
        self.sent.set(self.sent.get() + response.body.len() as u64);
        Ok(response)
    }
}

impl Transport for Server {
    async fn get(&self, request: Request, arrived: &dyn Fn(u64)) -> Result<Response, Failure> {
        let name = request.url.rsplit('/').next().expect("a URL has parts");
        if name == "model.safetensors" {
            let response = self.weights(&request)?;
            arrived(response.body.len() as u64);
            return Ok(response);
        }
        Ok(match self.files.get(name) {
            Some(body) => Response {
                status: 200,
                body: body.clone(),
                ..Response::default()
            },
            None => Response {
                status: 404,
                ..Response::default()
            },
        })
    }

    async fn sleep(&self, duration: Duration) -> Result<(), Failure> {
        self.waits.borrow_mut().push(duration);
        Ok(())
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}

fn fetch(server: &Server, report: &dyn Fn(Event)) -> Result<Box<dyn Engine>, Error> {
    let location = Location::new("me/model", None, None)?;
    let client = Client::new(server, location, None);
    block_on(async {
        let model =
            RemoteModel::open(Repository::open(client, None).await?, &Wanted::default()).await?;
        let blocks = model.config.blocks_to_run();
        engine::fetch(model, blocks, Precision::Fp32, &Device::Cpu, report).await
    })
}

fn logits(model: &dyn Engine) -> Vec<f32> {
    let images = HostTensor {
        shape: vec![1, 3, 28, 28],
        values: generator::tensor("remote.in", "input", &[1, 3, 28, 28]),
    };
    let output = block_on(model.logits_and_features(images, &[])).expect("the input fits");
    output.logits.values
}

/// What the same weights give when they are loaded from memory.
fn expected() -> Vec<f32> {
    let weights: Box<dyn Checkpoint> = Box::new(Generated::new("remote", &config()));
    let model = block_on(engine::load(
        &mut [weights],
        config(),
        3,
        Precision::Fp32,
        &Device::Cpu,
    ))
    .expect("they load");
    logits(&*model)
}

#[test]
fn only_the_chunks_of_the_blocks_that_run_are_fetched() {
    let server = Server::new(Fault::None);
    let model = fetch(&server, &|_| {}).expect("the server behaves");
    assert_eq!(model.blocks(), 3);
    assert_eq!(logits(&*model), expected());
    let file = server.files["model.safetensors"].len() as u64;
    assert!(
        server.sent.get() < file - CHUNK,
        "{} of {file}",
        server.sent.get()
    );
}

#[test]
fn passing_faults_change_nothing() {
    let expected = expected();
    for fault in [
        Fault::Cut(1_000_003),
        Fault::Lost(100_000),
        Fault::Refuse(503, 3),
        Fault::Refuse(429, 1),
        Fault::Expired(1),
        Fault::Unreachable(4),
    ] {
        let server = Server::new(fault);
        let model = fetch(&server, &|_| {}).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(logits(&*model), expected, "{fault:?}");
        if let Fault::Refuse(_, times) = fault {
            let waits = server.waits.borrow();
            assert_eq!(*waits, vec![Duration::from_secs(7); times as usize]);
        }
    }
}

#[test]
fn a_busy_server_is_left_alone_as_long_as_it_asks() {
    // Nothing that it asks for shortens the back-off, and a wait that nobody has is told at once.
    let own = [0.1875, 0.375, 0.75].map(Duration::from_secs_f64);
    for (retry_after, waits) in [
        ("0", own),
        ("Wed, 21 Oct 2026 07:28:00 GMT", own),
        ("300", [Duration::from_secs(300); 3]),
    ] {
        let server = Server::new(Fault::Busy(retry_after, 3));
        fetch(&server, &|_| {}).unwrap_or_else(|error| panic!("{retry_after}: {error}"));
        assert_eq!(*server.waits.borrow(), waits, "{retry_after}");
    }
    let server = Server::new(Fault::Limited(r#""resolvers";r=0;t=55"#, 3));
    fetch(&server, &|_| {}).expect("the hub says how long");
    assert_eq!(*server.waits.borrow(), [Duration::from_secs(55); 3]);
    for retry_after in ["301", "3600", "86400"] {
        let server = Server::new(Fault::Busy(retry_after, 1));
        let error = fetch(&server, &|_| {}).err().expect("it is told");
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        let message = error.to_string();
        assert!(
            message.contains("429") && message.contains(&format!("{retry_after} seconds")),
            "{message}"
        );
        assert_eq!(server.requests.get(), 1, "{retry_after}");
        assert!(server.waits.borrow().is_empty(), "{retry_after}");
    }
}

#[test]
fn a_broken_connection_costs_nothing_twice() {
    let whole = Server::new(Fault::None);
    fetch(&whole, &|_| {}).expect("the server behaves");
    let cut = Server::new(Fault::Cut(3_000_000));
    fetch(&cut, &|_| {}).expect("the rest is asked for");
    assert_eq!(cut.sent.get(), whole.sent.get());
}

#[test]
fn final_faults_have_their_errors() {
    for (fault, kind, part) in [
        (Fault::Refuse(503, 99), ErrorKind::Network, "503"),
        (Fault::Refuse(401, 99), ErrorKind::NotFound, "token"),
        (Fault::Refuse(404, 99), ErrorKind::NotFound, "no such file"),
        (Fault::Refuse(418, 99), ErrorKind::Network, "418"),
        (Fault::Expired(99), ErrorKind::Network, "403"),
        (
            Fault::Unreachable(99),
            ErrorKind::Network,
            "no route to host",
        ),
        (Fault::NoRanges, ErrorKind::Unsupported, "Range"),
        (Fault::WrongRange, ErrorKind::Network, "were asked for"),
        (Fault::NoContentRange, ErrorKind::Network, "Content-Range"),
        (Fault::Changes, ErrorKind::Integrity, "changed"),
        (Fault::Shorter, ErrorKind::Integrity, "shorter"),
        (Fault::Html, ErrorKind::Format, "HTML"),
        (Fault::Abort(0), ErrorKind::Aborted, ""),
        (Fault::Abort(1), ErrorKind::Aborted, ""),
    ] {
        let server = Server::new(fault);
        let Err(error) = fetch(&server, &|_| {}) else {
            panic!("{fault:?} was not noticed")
        };
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        assert!(error.to_string().contains(part), "{fault:?}: {error}");
        if kind != ErrorKind::Aborted {
            assert!(
                error.to_string().contains("model.safetensors"),
                "{fault:?}: {error}"
            );
        }
        assert!(
            server.requests.get() < 12,
            "{fault:?}: {} requests",
            server.requests.get()
        );
    }
}

#[test]
fn a_model_that_is_not_there_is_not_found() {
    let mut server = Server::new(Fault::None);
    server.files.remove("config.json");
    let error = fetch(&server, &|_| {})
        .err()
        .expect("there is no configuration");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // A static host that shows a page for every address.
    let page = b"<!doctype html>".to_vec();
    server.files.insert("config.json".to_owned(), page);
    let error = fetch(&server, &|_| {})
        .err()
        .expect("a page is no configuration");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn progress_rises_to_its_total() {
    for fault in [Fault::None, Fault::Cut(2_000_000)] {
        let events = RefCell::new(Vec::new());
        let server = Server::new(fault);
        fetch(&server, &|event| events.borrow_mut().push(event)).expect("it loads");
        let events = events.into_inner();
        let statuses: Vec<Status> = events.iter().map(|event| event.status).collect();
        assert_eq!(statuses[..2], [Status::Initiate, Status::Download]);
        assert_eq!(statuses.last(), Some(&Status::Done));
        let totals: Vec<&Event> = events
            .iter()
            .filter(|event| event.status == Status::ProgressTotal)
            .collect();
        assert!(totals.is_sorted_by_key(|event| event.loaded));
        assert!(
            totals
                .iter()
                .all(|event| event.loaded <= event.total && event.total > 0)
        );
        let last = totals.last().expect("there is progress");
        assert_eq!(last.loaded, last.total);
        assert_eq!(last.total, server.sent.get());
    }
}

#[test]
fn shards_are_read_in_the_order_of_their_names() {
    let mut server = Server::new(Fault::None);
    for (index, part) in [
        ("not json", "no index"),
        (r#"{"weight_map": {}}"#, "no files"),
        (
            r#"{"weight_map": {"a": "../x.safetensors"}}"#,
            "x.safetensors",
        ),
        (
            r#"{"weight_map": {"a": "https://evil/x.safetensors"}}"#,
            "evil",
        ),
    ] {
        let name = "model.safetensors.index.json".to_owned();
        server.files.insert(name, index.as_bytes().to_vec());
        let error = fetch(&server, &|_| {}).err().expect("the index is broken");
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.to_string().contains(part), "{error}");
    }
    let map: serde_json::Map<String, serde_json::Value> = Generated::new("remote", &config())
        .tensors()
        .iter()
        .map(|info| (info.name.clone(), "model.safetensors".into()))
        .collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    let name = "model.safetensors.index.json".to_owned();
    server.files.insert(name, index.into_bytes());
    let model = fetch(&server, &|_| {}).expect("one shard");
    assert_eq!(logits(&*model), expected());
}
