//! The names of the classes.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result, printable};

/// The file that names a model's classes, if it has one.
pub const LABELS_FILE: &str = "labels.json";

/// The thousand classes of ImageNet-1k in the order of the sorted folder names (`n01440764`
/// first), as torchvision lists them in the metadata of its weights.
const IMAGENET_1K: &str = include_str!("labels/imagenet_1k.txt");

/// How many they are.
const IMAGENET_CLASSES: usize = 1000;

/// The numbers of the same classes in `WordNet`, which are the names of their folders, in the same order.
const IMAGENET_1K_WNIDS: &str = include_str!("labels/imagenet_1k_wnids.txt");

/// `ImageNet`-1k's classes by name, `tench` first, in the order of its models' logits.
pub fn imagenet_names() -> impl Iterator<Item = &'static str> {
    IMAGENET_1K.lines()
}

/// `ImageNet`-1k's classes by their numbers in `WordNet`, `n01440764` first, in the same order.
pub fn imagenet_wnids() -> impl Iterator<Item = &'static str> {
    IMAGENET_1K_WNIDS.lines()
}

/// A name for each class, in the order of the logits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// A name for each class, in the order of the logits.
    pub const fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Reads `labels.json` (a list of names) or `config.json` (its `id2label` map).
    ///
    /// `None` if the text is a map without `id2label`: then the model brings no labels.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if the text is neither, a class has no name,
    /// or their number is not `num_classes`.
    pub fn from_json(text: &str, num_classes: usize) -> Result<Option<Self>> {
        let raw: RawLabels = serde_json::from_str(text).map_err(|error| {
            Error::format(format!(
                "not a list of labels: {}",
                printable(&error.to_string())
            ))
        })?;
        let names = match raw {
            RawLabels::List(names) => names,
            RawLabels::Config { id2label: None } => return Ok(None),
            RawLabels::Config {
                id2label: Some(names),
            } => in_order(names)?,
        };
        if names.len() != num_classes {
            return Err(Error::format(format!(
                "{} labels for a model of {num_classes} classes",
                names.len()
            )));
        }
        Ok(Some(Self(names)))
    }

    /// What to call the classes of a model that brings no labels: ImageNet's names for a thousand
    /// classes, else `class 0`, `class 1`, and so on.
    pub fn unnamed(num_classes: usize) -> Self {
        if num_classes == IMAGENET_CLASSES {
            return Self(imagenet_names().map(str::to_owned).collect());
        }
        Self((0..num_classes).map(|id| format!("class {id}")).collect())
    }

    /// The name of a class, from 0.
    pub fn get(&self, class: usize) -> Option<&str> {
        self.0.get(class).map(String::as_str)
    }

    /// All names, in the order of the logits.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a list of names, or a map with `id2label`"
)]
enum RawLabels {
    List(Vec<String>),
    Config {
        id2label: Option<BTreeMap<String, String>>,
    },
}

/// Sorts `{"0": "cat", "1": "dog"}` by number and refuses gaps.
fn in_order(names: BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut numbered = BTreeMap::new();
    for (id, name) in names {
        let id: usize = id.parse().map_err(|_| {
            Error::format(format!(
                "id2label has the key {:?}, not a class number",
                printable(&id)
            ))
        })?;
        numbered.insert(id, name);
    }
    match numbered.keys().enumerate().find(|(nth, id)| nth != *id) {
        Some((gap, _)) => Err(Error::format(format!(
            "id2label has no name for class {gap}"
        ))),
        None => Ok(numbered.into_values().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_imagenet_has_a_name_and_a_number() {
        let wnids: Vec<&str> = imagenet_wnids().collect();
        assert_eq!(wnids.len(), IMAGENET_CLASSES);
        assert_eq!(imagenet_names().count(), IMAGENET_CLASSES);
        // Folders are sorted, and classes follow them.
        assert!(wnids.is_sorted_by(|a, b| a < b));
        let is_wnid = |wnid: &str| {
            let digits = wnid.strip_prefix('n').unwrap_or_default();
            digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_digit())
        };
        assert!(wnids.iter().all(|wnid| is_wnid(wnid)));
        let name = |wnid: &str| {
            let index = imagenet_wnids().position(|own| own == wnid);
            imagenet_names().nth(index.unwrap()).unwrap()
        };
        for (wnid, expected) in [
            ("n01440764", "tench"),
            ("n02085620", "Chihuahua"),
            ("n02012849", "crane bird"),
            ("n03126707", "crane"),
            ("n03710721", "maillot tank suit"),
            ("n15075141", "toilet tissue"),
        ] {
            assert_eq!(name(wnid), expected);
        }
    }
}
