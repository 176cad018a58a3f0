//! From a request to an answer, right or wrong.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use aim_web::weights::remote::listing;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::fault::{Fault, LARGE, Plan};
use super::http::{Connection, Request};
use super::{Logged, State};

const PAGE: &[u8] = b"<!DOCTYPE html><html><title>Please log in</title><p>Sorry.</html>";
const EXPIRED: &[u8] = b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
const DENIED: &[u8] = b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:4665a5ea423c2713d436b5ee50593a9640e0018c1550b5a0002f74190d6caea8\nsize 12\n";

/// Answers one request; an error ends the connection.
pub(super) fn answer(
    state: &State,
    connection: &mut Connection,
    request: &Request,
    is_storage: bool,
) -> io::Result<()> {
    let parts: Vec<&str> = request.path.split('/').skip(1).collect();
    if request.method == "OPTIONS" {
        return plain(state, connection, request, 204, b"");
    }
    match parts.as_slice() {
        ["-", command] => command_of(state, connection, request, command),
        ["signed", _, user, name, file] if is_storage => {
            // An address that is signed needs no token, and must not get one.
            if request.headers.contains_key("authorization") {
                return plain(state, connection, request, 400, b"a token came");
            }
            file_of(state, connection, request, &[user, name, file], true)
        }
        ["bridge", user, name, file] if is_storage => {
            let target = signed(state, "localhost", &[user, name, file]);
            to(state, connection, request, 302, target)
        }
        _ if is_storage => plain(state, connection, request, 404, b""),
        ["api", "models", user, name, ..] | [user, name, "resolve", ..]
            if let Some(own) = renamed(&state.root, user, name) =>
        {
            // An address without a host, as the hub gives it.
            let old = format!("/{user}/{name}");
            let target = request.path.replacen(&old, &own, 1);
            to(state, connection, request, 307, target)
        }
        ["api", "models", user, name, "revision", revision] => {
            listing_of(state, connection, request, &[user, name], revision)
        }
        ["files", user, name, file] => {
            file_of(state, connection, request, &[user, name, file], false)
        }
        [user, name, "resolve", revision, file] => {
            if !may_read(state, request) {
                return refuse(state, connection, request);
            }
            if *revision != "main" && *revision != commit(&state.root.join(user).join(name)) {
                return plain(state, connection, request, 404, b"");
            }
            let path = state.root.join(user).join(name).join(file);
            if !path.is_file() || !LARGE.iter().any(|end| file.ends_with(end)) {
                return file_of(state, connection, request, &[user, name, file], false);
            }
            redirect(state, connection, request, &[user, name, file])
        }
        _ => plain(state, connection, request, 404, b""),
    }
}

fn may_read(state: &State, request: &Request) -> bool {
    match &state.plan.lock().unwrap().token {
        None => true,
        Some(token) => request.headers.get("authorization") == Some(&format!("Bearer {token}")),
    }
}

/// The path of a repository that is asked for by an older name or in another case.
fn renamed(root: &Path, user: &str, name: &str) -> Option<String> {
    if root.join(user).join(name).is_dir() {
        return None;
    }
    let own = |dir: &Path, name: &str| {
        let names = std::fs::read_dir(dir).ok()?.flatten();
        let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.find(|own| own.eq_ignore_ascii_case(name))
    };
    let user = own(root, user)?;
    let name = own(&root.join(&user), name)?;
    Some(format!("/{user}/{name}"))
}

/// Refuses whoever has no token that may read.
fn refuse(state: &State, connection: &mut Connection, request: &Request) -> io::Result<()> {
    if !state.plan.lock().unwrap().gated {
        return plain(state, connection, request, 401, b"");
    }
    let status = if request.headers.contains_key("authorization") {
        403
    } else {
        401
    };
    log(state, request, status, 0, false);
    let headers = [
        ("X-Error-Code", "GatedRepo".to_owned()),
        ("Content-Length", "0".to_owned()),
    ];
    connection.head(status, &headers)
}

fn redirect(
    state: &State,
    connection: &mut Connection,
    request: &Request,
    place: &[&str],
) -> io::Result<()> {
    let (is_loop, bridge) = {
        let plan = state.plan.lock().unwrap();
        (plan.fault == Fault::Loop, plan.bridge)
    };
    let target = if is_loop {
        request.path.clone()
    } else if bridge {
        format!("http://{}/bridge/{}", state.storage, place.join("/"))
    } else {
        signed(state, &state.storage.ip().to_string(), place)
    };
    to(state, connection, request, 302, target)
}

/// A signed address on a host that is this machine.
fn signed(state: &State, host: &str, place: &[&str]) -> String {
    let number = state.signed.fetch_add(1, Ordering::SeqCst);
    let port = state.storage.port();
    format!("http://{host}:{port}/signed/{number}/{}", place.join("/"))
}

fn to(
    state: &State,
    connection: &mut Connection,
    request: &Request,
    status: u16,
    target: String,
) -> io::Result<()> {
    log(state, request, status, 0, false);
    let headers = [("Location", target), ("Content-Length", "0".to_owned())];
    connection.head(status, &headers)
}

/// `/-/fault?fault=cut&n=1000`, `/-/reset`, `/-/log`
fn command_of(
    state: &State,
    connection: &mut Connection,
    request: &Request,
    command: &str,
) -> io::Result<()> {
    let body = match command {
        "fault" => match Plan::from_query(&request.query) {
            Some(plan) => {
                *state.plan.lock().unwrap() = plan;
                json!({})
            }
            None => json!({ "error": "no such fault" }),
        },
        "reset" => {
            state.reset();
            json!({})
        }
        _ => {
            let requests = state.log.lock().unwrap();
            let requests: Vec<_> = requests
                .iter()
                .map(|entry| json!({ "path": entry.path, "status": entry.status, "sent": entry.sent }))
                .collect();
            json!({ "sent": state.sent.load(Ordering::SeqCst), "requests": requests })
        }
    };
    let status = if body.get("error").is_some() {
        400
    } else {
        200
    };
    let body = body.to_string();
    let headers = [
        ("Content-Type", "application/json".to_owned()),
        ("Content-Length", body.len().to_string()),
    ];
    connection.head(status, &headers)?;
    connection.send(body.as_bytes())
}

/// The hub's API: the commit, and each file with its size and, if it is large, its SHA-256.
fn listing_of(
    state: &State,
    connection: &mut Connection,
    request: &Request,
    place: &[&str],
    revision: &str,
) -> io::Result<()> {
    let fault = state.plan.lock().unwrap().next(&request.path);
    match fault {
        Fault::Status(status) => return plain(state, connection, request, status, b""),
        Fault::Close => return Err(io::ErrorKind::ConnectionReset.into()),
        _ => {}
    }
    let dir = place
        .iter()
        .fold(state.root.clone(), |dir, part| dir.join(part));
    let no_api = state.plan.lock().unwrap().no_api;
    if no_api || !dir.is_dir() || !may_read(state, request) {
        if !may_read(state, request) {
            return refuse(state, connection, request);
        }
        return plain(state, connection, request, 404, b"");
    }
    let commit = commit(&dir);
    if revision != "main" && revision != commit {
        return plain(state, connection, request, 404, b"");
    }
    let other_names = state.plan.lock().unwrap().other_names;
    let siblings: Vec<_> = files(&dir)
        .into_iter()
        .map(|(name, len)| {
            if LARGE.iter().any(|end| name.ends_with(end)) {
                let mut lfs = json!({ "size": len, "pointerSize": 134 });
                if let Some(hash) = hash(state, &dir.join(&name)) {
                    lfs["sha256"] = json!(hash);
                }
                let oid = format!("{commit}{name}");
                json!({ "rfilename": name, "size": len, "blobId": oid, "lfs": lfs })
            } else {
                let mut bytes = std::fs::read(dir.join(&name)).unwrap_or_default();
                if other_names {
                    bytes.extend(name.bytes());
                }
                let blob = listing::blob(&bytes);
                json!({ "rfilename": name, "size": len, "blobId": blob })
            }
        })
        .collect();
    let body = json!({ "sha": commit, "siblings": siblings }).to_string();
    plain(state, connection, request, 200, body.as_bytes())
}

/// The names and sizes of the files of a repository.
fn files(dir: &Path) -> Vec<(String, u64)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("the repository can be read")
        .flatten()
        .filter_map(|entry| {
            let len = entry.metadata().ok()?.len();
            Some((entry.file_name().into_string().ok()?, len))
        })
        .collect();
    files.sort();
    files
}

/// A name of the repository's state.
pub(super) fn commit(dir: &Path) -> String {
    let mut hasher = Sha256::new();
    if !dir.is_dir() {
        return String::new();
    }
    for (name, len) in files(dir) {
        let modified = dir.join(&name).metadata().and_then(|meta| meta.modified());
        hasher.update(format!("{name} {len} {modified:?}\n"));
    }
    hex(&hasher.finalize())[..40].to_owned()
}

/// The SHA-256 of a file; of very large ones none, so that a sparse one of 28 GB costs nothing.
fn hash(state: &State, path: &Path) -> Option<String> {
    let meta = path.metadata().ok()?;
    if meta.len() > 1 << 30 {
        return None;
    }
    let key = (path.to_owned(), meta.modified().ok()?);
    let mut hashes = state.hashes.lock().unwrap();
    if let Some(hash) = hashes.get(&key) {
        return Some(hash.clone());
    }
    let mut hasher = Sha256::new();
    let mut file = File::open(path).ok()?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).ok()? {
            0 => break,
            read => hasher.update(&piece[..read]),
        }
    }
    let hash = hex(&hasher.finalize());
    hashes.insert(key, hash.clone());
    Some(hash)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file or a part of it, with whatever goes wrong.
fn file_of(
    state: &State,
    connection: &mut Connection,
    request: &Request,
    place: &[&str],
    is_signed: bool,
) -> io::Result<()> {
    let fault = state.plan.lock().unwrap().next(&request.path);
    // Whether there is such a file or not.
    match fault {
        Fault::Close => return Err(io::ErrorKind::ConnectionReset.into()),
        Fault::Status(status) => return plain(state, connection, request, status, b"no"),
        _ => {}
    }
    let path: PathBuf = place
        .iter()
        .fold(state.root.clone(), |dir, part| dir.join(part));
    let Ok(mut file) = File::open(&path) else {
        let is_hidden = state.plan.lock().unwrap().hides && request.path.starts_with("/files/");
        if is_hidden {
            return plain(state, connection, request, 403, DENIED);
        }
        return plain(state, connection, request, 404, b"");
    };
    let len = file.metadata()?.len();
    let modified = path.metadata()?.modified().ok();
    let mut etag = format!(
        "\"{}\"",
        &hex(&Sha256::digest(format!("{path:?}{len}{modified:?}")))[..16]
    );

    // Answers that are not of this file.
    match fault {
        Fault::Expired => return plain(state, connection, request, 403, EXPIRED),
        Fault::Html => return page(state, connection, request, None),
        Fault::HtmlPart => return page(state, connection, request, Some(PAGE)),
        Fault::Pointer => return page(state, connection, request, Some(POINTER)),
        Fault::ChangedEtag => {
            etag = format!("\"{}\"", state.changes.fetch_add(1, Ordering::SeqCst));
        }
        Fault::OutOfOrder if state.log.lock().unwrap().len().is_multiple_of(2) => {
            std::thread::sleep(Duration::from_millis(60));
        }
        _ => {}
    }
    let range = match request.range(len) {
        Some(None) => return plain(state, connection, request, 416, b""),
        Some(Some(range)) if fault != Fault::NoRanges => Some(range),
        _ => None,
    };
    // The range belongs to another state of the file.
    let range = range.filter(|_| {
        request
            .headers
            .get("if-range")
            .is_none_or(|expected| *expected == etag)
    });
    let (mut first, mut end) = range.unwrap_or((0, len));
    if fault == Fault::WrongRange {
        (first, end) = (first + 1, (end + 1).min(len));
    }
    let mut headers = vec![
        ("ETag", etag),
        ("Accept-Ranges", "bytes".to_owned()),
        ("Content-Type", content_type(&path).to_owned()),
    ];
    if range.is_some() && fault != Fault::NoContentRange {
        let total = if fault == Fault::WrongLength {
            len + 1
        } else {
            len
        };
        headers.push((
            "Content-Range",
            format!("bytes {first}-{}/{total}", end - 1),
        ));
    }
    if fault == Fault::ShortBody {
        end -= 1;
    }

    file.seek(SeekFrom::Start(first))?;
    let mut body = file.take(end - first);
    let status = if range.is_some() { 206 } else { 200 };
    if fault == Fault::Gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        io::copy(&mut body, &mut encoder)?;
        let body = encoder.finish()?;
        headers.push(("Content-Encoding", "gzip".to_owned()));
        headers.push(("Content-Length", body.len().to_string()));
        connection.head(status, &headers)?;
        log(state, request, status, body.len() as u64, is_signed);
        return connection.send(&body);
    }
    headers.push(("Content-Length", (end - first).to_string()));
    connection.head(status, &headers)?;
    let is_large = LARGE.iter().any(|end| request.path.ends_with(end));
    let sent = send(state, connection, &mut body, fault, is_large);
    log(
        state,
        request,
        status,
        *sent.as_ref().unwrap_or(&0),
        is_signed,
    );
    match fault {
        Fault::Cut(after) if end - first > after => Err(io::ErrorKind::ConnectionReset.into()),
        _ => sent.map(|_| ()),
    }
}

/// Sends a body, perhaps not all of it or not as it is; how many bytes were sent.
fn send(
    state: &State,
    connection: &mut Connection,
    body: &mut impl io::Read,
    fault: Fault,
    is_large: bool,
) -> io::Result<u64> {
    let mut piece = vec![0; if fault == Fault::Drip { 1 } else { 1 << 16 }];
    let mut sent = 0_u64;
    loop {
        let most = match fault {
            Fault::Cut(after) | Fault::Stall(after) => after.saturating_sub(sent),
            _ => u64::MAX,
        };
        let most = piece.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let read = body.read(&mut piece[..most])?;
        if read == 0 && most > 0 {
            return Ok(sent);
        }
        let read = match fault {
            Fault::StallAt(total) => state.count_up_to(total, read),
            _ => read,
        };
        if read == 0 {
            if !matches!(fault, Fault::Cut(_)) {
                connection.wait_for_end();
            }
            return match fault {
                Fault::Cut(_) => Ok(sent),
                _ => Err(io::ErrorKind::ConnectionReset.into()),
            };
        }
        if fault == Fault::Flip && sent == 0 {
            piece[read / 2] ^= 1;
        }
        connection.send(&piece[..read])?;
        sent += read as u64;
        if is_large && !matches!(fault, Fault::StallAt(_)) {
            state.sent.fetch_add(read as u64, Ordering::SeqCst);
        }
        if fault == Fault::Drip {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A page with status 200, or something in place of the bytes asked for.
fn page(
    state: &State,
    connection: &mut Connection,
    request: &Request,
    part: Option<&[u8]>,
) -> io::Result<()> {
    let body = part.unwrap_or(PAGE);
    let mut headers = vec![
        ("Content-Type", "text/html".to_owned()),
        ("Content-Length", body.len().to_string()),
    ];
    let status = if part.is_some() { 206 } else { 200 };
    if part.is_some() {
        let len = body.len();
        headers.push(("Content-Range", format!("bytes 0-{}/{len}", len - 1)));
    }
    connection.head(status, &headers)?;
    log(state, request, status, body.len() as u64, false);
    connection.send(body)
}

/// A small answer.
fn plain(
    state: &State,
    connection: &mut Connection,
    request: &Request,
    status: u16,
    body: &[u8],
) -> io::Result<()> {
    let mut headers = vec![("Content-Type", "application/json".to_owned())];
    if status != 204 {
        headers.push(("Content-Length", body.len().to_string()));
    }
    if matches!(status, 429 | 503) {
        headers.push(("Retry-After", "1".to_owned()));
    }
    log(state, request, status, body.len() as u64, false);
    connection.head(status, &headers)?;
    if request.method == "HEAD" {
        return Ok(());
    }
    connection.send(body)
}

fn log(state: &State, request: &Request, status: u16, sent: u64, is_signed: bool) {
    state.log.lock().unwrap().push(Logged {
        path: request.path.clone(),
        status,
        sent,
        authorization: request.headers.get("authorization").cloned(),
        is_signed,
    });
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|end| end.to_str()) {
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}
