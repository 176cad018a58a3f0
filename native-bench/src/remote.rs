//! Models on servers: the hub's or any other.

use std::cell::Cell;
use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use aim_web::config::{Config, Family};
use aim_web::labels::LABELS_FILE;
use aim_web::weights::files::{ApplePair, Candidate, is_checkpoint};
use aim_web::weights::local::read_text;
use aim_web::weights::remote::client::Client;
use aim_web::weights::remote::disk_cache::{self, DiskCache};
use aim_web::weights::remote::http::Http;
use aim_web::weights::remote::hub::ENDPOINT;
use aim_web::weights::remote::model::RemoteFront;
use aim_web::weights::remote::stall::Timeouts;
use aim_web::weights::remote::{Event, Location, RemoteModel, Repository, Status, Store, Wanted};
use aim_web::weights::shards::index::Index;
use aim_web::{Error, ErrorKind, Result};
use pollster::block_on;

use crate::{args, output};

/// The longest text that is read for a token.
const MAX_TOKEN: u64 = 1 << 16;

/// What a name that is no path may mean.
pub enum Found {
    /// On a server.
    Model(Box<RemoteModel<Http>>),
    /// On this machine after all: the hub's own tools have downloaded it.
    Snapshot { dir: PathBuf, repository: String },
}

/// What is asked of a server.
struct Address {
    location: Location,
    revision: String,
    /// The one file that was named, if one was.
    file: Option<String>,
    endpoint: String,
}

/// Opens the model that a name or a URL means; `None` if it can mean none.
pub fn open(model: &str, args: &args::Model) -> Option<Result<Found>> {
    match address(model)? {
        Ok(address) => Some(open_address(address, args)),
        Err(error) => Some(Err(error)),
    }
}

/// What the file holds that a URL names, whatever lies beside it; `None` if it names none.
pub fn front(url: &str) -> Option<Result<RemoteFront>> {
    let Ok(Address {
        location,
        file: Some(file),
        endpoint,
        ..
    }) = address(url)?
    else {
        return None;
    };
    let read = async {
        let repository = Repository::open(client(location, &endpoint)?, None).await?;
        RemoteFront::read(&repository, &file).await
    };
    Some(block_on(read))
}

/// What asks a server for files.
fn client(location: Location, endpoint: &str) -> Result<Client<Http>> {
    // The token is for the hub alone.
    let token = if location.takes_token(Some(endpoint)) {
        token()?
    } else {
        None
    };
    let mut http = Http::new(Timeouts::default())?;
    if let Some(variable) = offline() {
        http = http.offline(format!(
            "{variable} is set, so no server is asked for what is not on this machine: unset it to fetch this"
        ));
    }
    Ok(Client::new(http, location, token))
}

/// The variable by which the user asks for no network, as the hub's own tools read them.
fn offline() -> Option<&'static str> {
    let (name, value) = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
        .into_iter()
        .find_map(|name| Some((name, var(name)?)))?;
    is_true(&value).then_some(name)
}

fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
}

/// The token of the environment, else the one that the hub's own login wrote.
fn token() -> Result<Option<String>> {
    if var("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value)) {
        return Ok(None);
    }
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(text) = var(name) {
            return clean_token(&text, name);
        }
    }
    let path = disk_cache::path_from_env("HF_TOKEN_PATH")
        .or_else(|| Some(disk_cache::home_from_env()?.join("token")));
    let Some(path) = path else {
        return Ok(None);
    };
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_TOKEN).read_to_string(&mut text));
    match read {
        Ok(_) => clean_token(&text, &path.display().to_string()),
        Err(error)
            if matches!(
                error.kind(),
                IoErrorKind::NotFound | IoErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => {
            // Most models need none.
            output::warn(&format!(
                "the token in {} is not used: {error}",
                path.display()
            ));
            Ok(None)
        }
    }
}

/// A token without the line's end that an editor adds; `None` if nothing is left.
fn clean_token(text: &str, place: &str) -> Result<Option<String>> {
    let token = text.trim();
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::new(
            ErrorKind::Option,
            format!(
                "{place}: is no token of the hub: it has characters that none has; log in again"
            ),
        ));
    }
    Ok((!token.is_empty()).then(|| token.to_owned()))
}

fn address(model: &str) -> Option<Result<Address>> {
    let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
    if let Some((scheme, _)) = model.split_once("://") {
        if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
            return Some(Err(Error::new(
                ErrorKind::Option,
                format!(
                    "{model}: is no http or https address; a file of this machine is named by its path"
                ),
            )));
        }
        if let Some(name) = page_of_hub(model, &endpoint) {
            return address(&name);
        }
        // As the hub's own links to downloads have it.
        let model = model.strip_suffix("?download=true").unwrap_or(model);
        let download = download_of_page(model, &endpoint);
        let model = download.as_deref().unwrap_or(model);
        let (folder, file) = match model.rsplit_once('/') {
            Some((folder, file)) if is_checkpoint(file) => (folder, Some(file.to_owned())),
            _ => (model, None),
        };
        return Some(Location::new(folder, None, None).map(|location| Address {
            location,
            revision: String::new(),
            file,
            endpoint,
        }));
    }
    let (name, revision) = match model.rsplit_once('@') {
        Some((name, revision)) => (name, Some(revision)),
        None => (model, None),
    };
    let name = match name.parse::<Family>() {
        Ok(family) => format!("apple/{family}"),
        Err(_) => name.to_owned(),
    };
    if name.split('/').count() != 2 || is_path(&name) {
        return None;
    }
    let location = Location::new(&name, revision, Some(&endpoint));
    Some(location.map(|location| Address {
        location,
        revision: revision.unwrap_or("main").to_owned(),
        file: None,
        endpoint,
    }))
}

/// Whether a name can only be a file's or a folder's: a mistyped one is not looked for on a server.
fn is_path(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    name.starts_with(['.', '/', '~'])
        || name.contains('\\')
        || Path::new(name).is_absolute()
        || is_checkpoint(&lower)
        || lower.ends_with(".json")
}

/// The name of a repository, with its revision, whose page on the hub this is: what a browser's address bar says.
fn page_of_hub(url: &str, endpoint: &str) -> Option<String> {
    let path = url.strip_prefix(endpoint.trim_end_matches('/'))?;
    let path = path.strip_prefix('/')?.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        // Elsewhere it may be a folder.
        [user, name] if endpoint == ENDPOINT => Some(format!("{user}/{name}")),
        [user, name, "tree", revision] => Some(format!("{user}/{name}@{revision}")),
        // The page of a file that is no checkpoint by itself.
        [user, name, "blob", revision, file] if !is_checkpoint(file) => {
            Some(format!("{user}/{name}@{revision}"))
        }
        _ => None,
    }
}

/// The address of a checkpoint whose page on the hub this is.
fn download_of_page(url: &str, endpoint: &str) -> Option<String> {
    let endpoint = endpoint.trim_end_matches('/');
    let path = url.strip_prefix(endpoint)?.strip_prefix('/')?;
    let (user, path) = path.split_once('/')?;
    let (name, path) = path.split_once('/')?;
    let file = path
        .strip_prefix("blob/")
        .filter(|file| is_checkpoint(file))?;
    Some(format!("{endpoint}/{user}/{name}/resolve/{file}"))
}

fn open_address(address: Address, args: &args::Model) -> Result<Found> {
    let Address {
        location,
        revision,
        file,
        endpoint,
    } = address;
    let name = location.name.clone();
    let is_repository = !name.contains("://");
    let cache = DiskCache::from_env();
    let store = cache
        .clone()
        .map(|cache| Store::new(Rc::new(cache), Rc::new(output::warn)));
    let client = client(location, &endpoint)?;
    let snapshot = |commit: &str, is_listed: &dyn Fn(&str) -> bool| {
        let cache = cache.as_ref().filter(|_| is_repository)?;
        let dir = cache.snapshot(&name, commit)?;
        holds_model(&dir, args, is_listed).then_some(dir)
    };
    let found = |dir: PathBuf| Found::Snapshot {
        dir,
        repository: name.clone(),
    };
    let repository = match block_on(Repository::open(client, store)) {
        Ok(repository) => repository.warning(Rc::new(output::warn)),
        Err(error) if error.kind() == ErrorKind::Network => {
            let noted = cache
                .as_ref()
                .and_then(|cache| cache.noted_commit(&name, &revision));
            let dir = noted.and_then(|commit| snapshot(&commit, &|_| false));
            return dir.map(found).ok_or(error);
        }
        Err(error) => return Err(error),
    };
    let is_listed = |file: &str| repository.may_have(file);
    if let Some(commit) = repository.commit()
        && let Some(dir) = snapshot(commit, &is_listed)
        && (dir.join(LABELS_FILE).is_file() || !repository.may_have(LABELS_FILE))
    {
        return Ok(found(dir));
    }
    // Beside a trunk they are of that, and what is opened here is a head.
    let is_head = args.source.trunk.is_some();
    let config = match &args.source.config {
        Some(path) if !is_head => {
            let text = read_text(path)?;
            Some(Config::from_json(&text).map_err(|error| error.at(path.display()))?)
        }
        _ => None,
    };
    let wanted = Wanted {
        arch: args.source.arch.filter(|_| !is_head),
        config,
        probe_layers: args.settings.probe_layers.clone(),
        file,
    };
    let model = block_on(RemoteModel::open(repository, &wanted))?;
    Ok(Found::Model(Box::new(model)))
}

/// Whether a download into a directory brought all that a model needs: it may have been interrupted, or have been of some files
/// alone. `is_listed` is true for whatever else the repository is known to hold.
fn holds_model(dir: &Path, args: &args::Model, is_listed: &dyn Fn(&str) -> bool) -> bool {
    let has = |file: &str| dir.join(file).is_file();
    let is_whole = |candidate: Candidate| match candidate {
        Candidate::Checkpoint(name) => has(name),
        Candidate::Index(name) => read_text(&dir.join(name))
            .ok()
            .and_then(|text| Index::from_json(&text).ok())
            .is_some_and(|index| index.files().iter().all(|file| has(file))),
    };
    // Beside a trunk they are of that, and what is opened here is a head.
    let source = (args.source.trunk.is_none()).then_some(&args.source);
    let arch = source.and_then(|source| source.arch);
    let has_config = source.is_some_and(|source| source.config.is_some());
    let mut candidates = Candidate::ALL
        .into_iter()
        .filter(|candidate| has(candidate.name()));
    if has_config || has("config.json") {
        if candidates.any(is_whole) {
            return true;
        }
    } else if arch.is_some()
        && candidates.any(|candidate| matches!(candidate, Candidate::Checkpoint(_)))
    {
        return true;
    }
    if has_config {
        return false;
    }
    let is_known = |file: &str| has(file) || is_listed(file);
    let family = match (arch, ApplePair::families(is_known).as_slice()) {
        (Some(family), _) => family,
        // Beside a configuration they have the labels that it names.
        (None, [family]) if !is_known("config.json") => *family,
        _ => return false,
    };
    let pair = ApplePair::new(family, args.settings.probe_layers.as_ref());
    pair.names().iter().all(|name| has(name))
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A line that says how far a download is, where somebody watches.
pub struct Progress {
    is_watched: bool,
    shown: Cell<u64>,
}

impl Progress {
    pub fn new() -> Self {
        Self {
            is_watched: std::io::stderr().is_terminal(),
            shown: Cell::new(0),
        }
    }

    pub fn show(&self, event: &Event) {
        const STEP: u64 = 1 << 20;
        if !self.is_watched || event.status != Status::ProgressTotal {
            return;
        }
        if event.loaded < event.total && event.loaded < self.shown.get().saturating_add(STEP) {
            return;
        }
        self.shown.set(event.loaded);
        let mib = |bytes| bytes as f64 / f64::from(1 << 20);
        show(format_args!(
            "\r{:.0} of {:.0} MiB ",
            mib(event.loaded),
            mib(event.total)
        ));
    }

    pub fn end(&self) {
        if self.is_watched && self.shown.get() > 0 {
            show(format_args!("\r{:40}\r", ""));
        }
    }
}

/// Shows a part of a line, if anybody sees it.
fn show(text: std::fmt::Arguments<'_>) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_fmt(text).and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_browser_name_models() {
        let url = |model: &str| {
            let address = address(model)?.ok()?;
            Some((address.location.url(""), address.file))
        };
        let main = "https://huggingface.co/me/m/resolve/main/";
        let file = Some("model.safetensors".to_owned());
        for (model, expected) in [
            ("me/m", (main, None)),
            ("https://huggingface.co/me/m", (main, None)),
            ("https://huggingface.co/me/m/", (main, None)),
            ("https://huggingface.co/me/m/tree/main", (main, None)),
            (
                "https://huggingface.co/me/m/tree/v1",
                ("https://huggingface.co/me/m/resolve/v1/", None),
            ),
            (
                "https://huggingface.co/me/m/resolve/main/model.safetensors?download=true",
                (main, file.clone()),
            ),
            (
                "https://huggingface.co/me/m/blob/main/model.safetensors",
                (main, file.clone()),
            ),
            (
                "https://huggingface.co/me/m/blob/v1/sub/model.pth",
                (
                    "https://huggingface.co/me/m/resolve/v1/sub/",
                    Some("model.pth".to_owned()),
                ),
            ),
            (
                "https://huggingface.co/me/m/blob/main/config.json",
                (main, None),
            ),
            (
                "https://a.b/me/m/blob/main/model.pth",
                ("https://a.b/me/m/blob/main/", Some("model.pth".to_owned())),
            ),
            ("https://a.b/c/model.safetensors", ("https://a.b/c/", file)),
            ("http://a.b/c", ("http://a.b/c/", None)),
            ("HTTPS://a.b/c", ("HTTPS://a.b/c/", None)),
        ] {
            let (url, file) = url(model).expect(model);
            assert_eq!((url.as_str(), file), expected, "{model}");
        }
        for model in ["file:///etc/passwd", "ftp://a.b/c", "https://a.b/c?x=1"] {
            assert!(matches!(address(model), Some(Err(_))), "{model}");
        }
        assert!(address("model").is_none());
    }
}
