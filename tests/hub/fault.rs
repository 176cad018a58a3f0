//! What the server can do wrong.

use std::collections::HashMap;

/// The ends of files that the hub keeps in its storage for large ones.
pub(super) const LARGE: [&str; 3] = [".safetensors", ".pth", ".bin"];

/// In place of an end of paths: whatever weights are in.
pub const WEIGHTS: &str = "weights";

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// The connection ends after so many bytes of a body.
    Cut(u64),
    /// Nothing comes after so many bytes of a body, and the connection stays open.
    Stall(u64),
    /// Nothing comes once so many bytes were sent in all.
    StallAt(u64),
    /// The whole file with status 200, whatever was asked for.
    NoRanges,
    /// Other bytes than those asked for, honestly declared.
    WrongRange,
    /// No `Content-Range`.
    NoContentRange,
    /// A total length that is not the file's.
    WrongLength,
    /// Fewer bytes than `Content-Range` says.
    ShortBody,
    /// An `ETag` that differs from answer to answer.
    ChangedEtag,
    /// One bit of the body is wrong.
    Flip,
    /// A page with status 200.
    Html,
    /// A page, as if it were the bytes asked for.
    HtmlPart,
    /// A git-lfs pointer in place of the file.
    Pointer,
    /// This status; 429 and 503 with `Retry-After: 1`.
    Status(u16),
    /// The body is compressed.
    Gzip,
    /// One byte every 20 ms.
    Drip,
    /// Every other answer comes late.
    OutOfOrder,
    /// Signed addresses have expired; at the plain address, 403.
    Expired,
    /// The redirect leads back to itself.
    Loop,
    /// The connection ends without an answer.
    Close,
}

/// What goes wrong, where, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    pub fault: Fault,
    /// The end of the paths it happens on, or [`WEIGHTS`].
    pub on: String,
    /// How often it still happens.
    pub times: u32,
    /// How many such requests are still answered well first.
    pub after: u32,
    /// The hub has no API.
    pub no_api: bool,
    /// The API names small files otherwise than git does.
    pub other_names: bool,
    /// The only token that may read; none is needed without.
    pub token: Option<String>,
    /// Who may not read is told that the model is gated.
    pub gated: bool,
    /// What is not in a folder is answered with 403, as by an object store that may not be listed.
    pub hides: bool,
    /// Large files are redirected twice, the second time to another host.
    pub bridge: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            fault: Fault::None,
            on: WEIGHTS.to_owned(),
            times: u32::MAX,
            after: 0,
            no_api: false,
            other_names: false,
            token: None,
            gated: false,
            hides: false,
            bridge: false,
        }
    }
}

impl Plan {
    /// A fault that stays.
    pub fn of(fault: Fault) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    /// A fault that passes.
    pub fn passing(fault: Fault, times: u32) -> Self {
        Self {
            times,
            ..Self::of(fault)
        }
    }

    /// A plan from a query such as `fault=cut&n=1000&times=2&on=config.json`.
    pub fn from_query(query: &HashMap<String, String>) -> Option<Self> {
        let number = |key: &str| query.get(key).and_then(|value| value.parse::<u64>().ok());
        let n = number("n").unwrap_or(0);
        let fault = match query.get("fault")?.as_str() {
            "none" => Fault::None,
            "cut" => Fault::Cut(n),
            "stall" => Fault::Stall(n),
            "stall-at" => Fault::StallAt(n),
            "no-ranges" => Fault::NoRanges,
            "wrong-range" => Fault::WrongRange,
            "no-content-range" => Fault::NoContentRange,
            "wrong-length" => Fault::WrongLength,
            "short-body" => Fault::ShortBody,
            "changed-etag" => Fault::ChangedEtag,
            "flip" => Fault::Flip,
            "html" => Fault::Html,
            "html-part" => Fault::HtmlPart,
            "pointer" => Fault::Pointer,
            "status" => Fault::Status(u16::try_from(n).ok()?),
            "gzip" => Fault::Gzip,
            "drip" => Fault::Drip,
            "out-of-order" => Fault::OutOfOrder,
            "expired" => Fault::Expired,
            "loop" => Fault::Loop,
            "close" => Fault::Close,
            _ => return None,
        };
        let small = |key| number(key).and_then(|n| u32::try_from(n).ok());
        let plain = Self::default();
        Some(Self {
            fault,
            on: query.get("on").cloned().unwrap_or(plain.on),
            times: small("times").unwrap_or(plain.times),
            after: small("after").unwrap_or(plain.after),
            no_api: query.contains_key("no-api"),
            other_names: query.contains_key("other-names"),
            token: query.get("token").cloned(),
            gated: query.contains_key("gated"),
            hides: query.contains_key("hides"),
            bridge: query.contains_key("bridge"),
        })
    }

    /// The fault of the next request for `path`.
    pub(super) fn next(&mut self, path: &str) -> Fault {
        let is_meant = if self.on == WEIGHTS {
            LARGE.iter().any(|end| path.ends_with(end))
        } else {
            path.ends_with(&self.on)
        };
        if self.fault == Fault::None || !is_meant {
            return Fault::None;
        }
        if self.after > 0 {
            self.after -= 1;
            return Fault::None;
        }
        if self.times == 0 {
            return Fault::None;
        }
        self.times = self.times.saturating_sub(u32::from(self.times != u32::MAX));
        self.fault
    }
}
