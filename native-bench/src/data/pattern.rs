//! Names of many files in one: `shard-{000..099}.tar`, `{a,b}.tar`, `train-*.parquet`.

use std::path::{Path, PathBuf};

use aim_web::{Error, ErrorKind, Result};

use crate::files::is_there;

/// So many files are more than anybody means.
const MOST: usize = 1_000_000;

/// No name has more digits, which are as many as its bytes.
const MOST_DIGITS: usize = 255;

/// The names of so many files take more bytes than anybody has memory for.
const MOST_BYTES: usize = 1 << 30;

/// The files that a name means: itself if it is there, else what its braces and stars stand for, in their order.
///
/// # Errors
/// Kind `NotFound` if there is no such file or it can't be looked at, or one of those that braces name is missing.
pub fn expand(name: &Path) -> Result<Vec<PathBuf>> {
    let not_found =
        |text: &str, what: &str| Error::new(ErrorKind::NotFound, format!("{text}: {what}"));
    let text = name.to_string_lossy();
    let text = text.as_ref();
    if is_there(name)? {
        return Ok(vec![name.to_owned()]);
    }
    let names = braces(text)?;
    let is_pattern = names.len() > 1 || names.first().is_some_and(|first| first != text);
    let mut files = Vec::new();
    for name in names {
        let path = PathBuf::from(&name);
        if is_there(&path)? {
            files.push(path);
            continue;
        }
        let mut found = match glob::glob(&name) {
            Ok(paths) if name.contains(['*', '?', '[']) => paths
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| not_found(&name, &error.to_string()))?,
            _ => Vec::new(),
        };
        if found.is_empty() {
            return Err(if is_pattern {
                not_found(text, &format!("{name} is not there"))
            } else {
                not_found(text, "no such file or folder")
            });
        }
        files.append(&mut found);
    }
    Ok(files)
}

/// What braces stand for: numbers from one to another, as wide as the first, or alternatives.
fn braces(text: &str) -> Result<Vec<String>> {
    let error = |what: &str| Error::new(ErrorKind::Option, format!("{text}: {what}"));
    let mut names = vec![String::new()];
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after
            .split_once('}')
            .ok_or_else(|| error("a brace is not closed"))?;
        let options = options(inside)
            .ok_or_else(|| error("braces hold a range such as 000..099, or names with commas"))?;
        let count = options.len().saturating_mul(names.len());
        if count > MOST {
            return Err(error("its braces stand for over a million files"));
        }
        if count.saturating_mul(text.len()) > MOST_BYTES {
            return Err(error("its braces stand for too many long names"));
        }
        names = names
            .iter()
            .flat_map(|name| {
                options
                    .iter()
                    .map(move |option| format!("{name}{before}{option}"))
            })
            .collect();
        rest = after;
    }
    for name in &mut names {
        name.push_str(rest);
    }
    Ok(names)
}

fn options(inside: &str) -> Option<Vec<String>> {
    let Some((first, last)) = inside.split_once("..") else {
        let options = inside.split(',').map(str::to_owned);
        return inside.contains(',').then(|| options.collect());
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(first) || !is_number(last) || first.len() > MOST_DIGITS {
        return None;
    }
    let (from, to): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    if from > to {
        return None;
    }
    // One more than is allowed is enough for the error.
    let most = u64::try_from(MOST).unwrap_or(u64::MAX);
    let to = to.min(from.saturating_add(most));
    let width = first.len();
    Some((from..=to).map(|n| format!("{n:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_ranges_or_names() {
        let all = |text| braces(text).unwrap();
        assert_eq!(
            all("s-{008..011}.tar"),
            ["s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"]
        );
        assert_eq!(all("{a,b}/{1..2}"), ["a/1", "a/2", "b/1", "b/2"]);
        assert_eq!(all("plain.tar"), ["plain.tar"]);
        for wrong in [
            "{0..",
            "{}",
            "{5..3}",
            "{a..b}",
            "{x}",
            "{0..99999999}",
            "{0..2000}{0..2000}",
        ] {
            assert!(braces(wrong).is_err(), "{wrong}");
        }
        // More digits than a number is written with.
        let zeros = "0".repeat(70_000);
        for wrong in [
            format!("{{{zeros}..5}}.tar"),
            format!("{{0..999999}}{zeros}"),
        ] {
            assert_eq!(braces(&wrong).unwrap_err().kind(), ErrorKind::Option);
        }
        assert_eq!(all(&format!("{{{}1..2}}", &zeros[..200])).len(), 2);
    }

    #[test]
    fn files_that_lack_are_named() {
        let work = tempfile::tempdir().unwrap();
        let path = |name: &str| work.path().join(name);
        for name in ["a-0.tar", "a-1.tar", "{odd}.tar"] {
            std::fs::write(path(name), b"").unwrap();
        }
        let names = |pattern: &str| expand(&path(pattern)).map(|files| files.len());
        assert_eq!(names("a-{0..1}.tar").unwrap(), 2);
        assert_eq!(names("a-*.tar").unwrap(), 2);
        assert_eq!(names("{odd}.tar").unwrap(), 1);
        let error = names("a-{0..2}.tar").unwrap_err();
        assert!(
            error.to_string().contains("a-2.tar is not there"),
            "{error}"
        );
        assert!(names("b.tar").is_err() && names("b*.tar").is_err());
    }
}
