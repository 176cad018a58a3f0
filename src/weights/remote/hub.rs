//! Where the files of a model are: a hub repository by name, or any folder by its URL.

use crate::error::{Error, Result};

/// The hub that names without a server belong to.
pub const ENDPOINT: &str = "https://huggingface.co";

/// A folder of files on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// What the user called it: of a folder, without a slash at its end.
    pub name: String,
    /// The URL in front of a file's name; ends in a slash.
    base: String,
    /// The branch, tag or commit of a repository; empty for a folder.
    pub revision: String,
    /// The hub, if it is a repository there.
    endpoint: Option<String>,
}

impl Location {
    /// A hub name such as `apple/aim-600M`, at `revision` (default `main`) of `endpoint` (default
    /// [`ENDPOINT`]); or the URL of a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if the name, the revision or the endpoint
    /// can't be part of a URL.
    pub fn new(model: &str, revision: Option<&str>, endpoint: Option<&str>) -> Result<Self> {
        if model.contains("://") {
            return Self::folder(model);
        }
        let parts: Vec<&str> = model.split('/').collect();
        if !matches!(parts.len(), 1 | 2) || !parts.iter().all(|part| is_name(part)) {
            return Err(Error::option(format!(
                "{model:?} is neither a repository such as apple/aim-600M nor the URL of a folder"
            )));
        }
        let revision = revision.unwrap_or("main");
        if revision.is_empty() || !revision.split('/').all(is_name) {
            return Err(Error::option(format!(
                "{revision:?} is no revision: give a branch, a tag or a commit"
            )));
        }
        let endpoint = endpoint.unwrap_or(ENDPOINT);
        let endpoint = http(endpoint)?.trim_end_matches('/');
        Ok(Self {
            name: model.to_owned(),
            base: base(endpoint, model, revision),
            revision: revision.to_owned(),
            endpoint: Some(endpoint.to_owned()),
        })
    }

    fn folder(url: &str) -> Result<Self> {
        let scheme = url.split("://").next().unwrap_or_default();
        if scheme.is_empty() || !is_name(scheme) {
            return Err(Error::option(format!("{url:?} is no URL")));
        }
        if url.contains(['?', '#']) {
            return Err(Error::option(format!(
                "{url}: the URL of a folder has no query and no fragment"
            )));
        }
        let mut base = url.to_owned();
        if !base.ends_with('/') {
            base.push('/');
        }
        Ok(Self {
            name: folder_name(url).to_owned(),
            base,
            revision: String::new(),
            endpoint: None,
        })
    }

    /// The URL of a file in the folder.
    pub fn url(&self, file: &str) -> String {
        format!("{}{file}", self.base)
    }

    /// Whether a token for the hub at `endpoint` (default [`ENDPOINT`]) may be sent there: to a repository of that hub, or to a
    /// folder on the same server.
    pub fn takes_token(&self, endpoint: Option<&str>) -> bool {
        let hub = origin(endpoint.unwrap_or(ENDPOINT));
        origin(&self.base)
            .zip(hub)
            .is_some_and(|(own, hub)| own.eq_ignore_ascii_case(hub))
    }

    /// True for a repository of a hub, false for a folder.
    pub(super) const fn is_repository(&self) -> bool {
        self.endpoint.is_some()
    }

    /// Where a person reads about the repository.
    pub(super) fn page(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => format!("{endpoint}/{}", self.name),
            None => self.base.clone(),
        }
    }

    /// The hub's address; nothing for a folder.
    pub(super) fn endpoint(&self) -> &str {
        self.endpoint.as_deref().unwrap_or_default()
    }

    /// Where the hub says what the repository holds; `None` for a folder.
    pub(super) fn listing_url(&self) -> Option<String> {
        let endpoint = self.endpoint.as_ref()?;
        Some(format!(
            "{endpoint}/api/models/{}/revision/{}?blobs=true",
            self.name,
            self.revision.replace('/', "%2F")
        ))
    }

    /// The same repository at a commit, which never changes.
    pub(super) fn at_commit(&mut self, commit: &str) {
        if let Some(endpoint) = &self.endpoint {
            self.base = base(endpoint, &self.name, commit);
        }
    }
}

fn base(endpoint: &str, model: &str, revision: &str) -> String {
    format!(
        "{endpoint}/{model}/resolve/{}/",
        revision.replace('/', "%2F")
    )
}

/// What a folder is called, whether the slash at its end was typed or not.
pub(super) fn folder_name(url: &str) -> &str {
    match url.strip_suffix('/') {
        // Two slashes make another folder, or no address.
        Some(name) if !name.ends_with('/') => name,
        _ => url,
    }
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split('/').next()?;
    url.get(..scheme.len() + "://".len() + host.len())
}

/// A part of a path that means itself.
fn is_name(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 96
        && part != "."
        && part != ".."
        && part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn http(url: &str) -> Result<&str> {
    if url.starts_with("https://") || url.starts_with("http://") {
        Ok(url)
    } else {
        Err(Error::option(format!(
            "{url:?} is no http or https address"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(model: &str, revision: Option<&str>, endpoint: Option<&str>) -> Result<String> {
        Ok(Location::new(model, revision, endpoint)?.url("config.json"))
    }

    #[test]
    fn names_and_folders_become_urls() {
        for (model, revision, endpoint, expected) in [
            (
                "apple/aim-600M",
                None,
                None,
                "https://huggingface.co/apple/aim-600M/resolve/main/config.json",
            ),
            (
                "me/m",
                Some("refs/pr/1"),
                Some("http://localhost:8/"),
                "http://localhost:8/me/m/resolve/refs%2Fpr%2F1/config.json",
            ),
            ("https://a.b/c", None, None, "https://a.b/c/config.json"),
            ("http://a.b/c/", None, None, "http://a.b/c/config.json"),
        ] {
            assert_eq!(url(model, revision, endpoint).expect("it is one"), expected);
        }
    }

    #[test]
    fn a_folder_has_one_name() {
        for (url, name) in [
            ("http://a.b/c", "http://a.b/c"),
            ("http://a.b/c/", "http://a.b/c"),
            ("http://a.b/c//", "http://a.b/c//"),
            ("http://a.b/", "http://a.b"),
            ("file:///", "file:///"),
        ] {
            let location = Location::new(url, None, None).expect("it is one");
            assert_eq!(location.name, name);
        }
    }

    #[test]
    fn a_token_goes_to_its_endpoint_alone() {
        let mirror = Some("https://mirror.invalid/");
        for (model, endpoint, expected) in [
            ("user/repo", None, true),
            ("user/repo", mirror, true),
            ("https://huggingface.co/user/repo/resolve/main/", None, true),
            ("https://HuggingFace.co", None, true),
            ("https://mirror.invalid/folder", mirror, true),
            ("https://host.invalid/folder", None, false),
            ("http://huggingface.co/user/repo", None, false),
            ("https://huggingface.co:444/user/repo", None, false),
            ("https://huggingface.co.invalid/folder", None, false),
            ("https://huggingface.co@host.invalid/folder", None, false),
            ("https://huggingface.co/user/repo", mirror, false),
        ] {
            let location = Location::new(model, None, endpoint).expect("it is one");
            assert_eq!(
                location.takes_token(endpoint),
                expected,
                "{model} {endpoint:?}"
            );
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for (model, revision, endpoint) in [
            ("", None, None),
            ("a/b/c", None, None),
            ("a/..", None, None),
            ("a b/c", None, None),
            ("://x", None, None),
            ("java script://x", None, None),
            ("https://a.b/c?x=1", None, None),
            ("a/b", Some("../../x"), None),
            ("a/b", Some(""), None),
            ("a/b", None, Some("javascript:alert(1)")),
        ] {
            url(model, revision, endpoint).expect_err(model);
        }
    }
}
