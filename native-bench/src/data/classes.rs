//! From a data set's classes to a model's.

use aim_web::labels::{self, Labels};
use aim_web::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::Class;
use crate::output;

/// How the classes of a data set were found among a model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Each is called as a label of the model.
    Label,
    /// Each is called as `ImageNet` numbers it, `n01440764`.
    Wnid,
    /// They are as many as the model's.
    Order,
    /// They are numbers of the model's.
    Number,
}

/// The model's class of each class of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub by: By,
    pub indices: Vec<usize>,
}

/// Finds a data set's classes among a model's: by its labels if all are called so, by `ImageNet`'s numbers if all are, by
/// order if they are as many and none is called as a label at another place.
///
/// # Errors
/// Kind `Option` if none of that is so; the message names a class that is not found.
pub fn map(classes: &[Class], labels: &Labels) -> Result<Mapping> {
    let all = |index: &dyn Fn(&str) -> Option<usize>| -> Option<Vec<usize>> {
        classes.iter().map(|class| index(&class.name)).collect()
    };
    let by_label = |name: &str| only(labels, |label| label == name);
    if let Some(indices) = all(&by_label) {
        return Ok(Mapping {
            by: By::Label,
            indices,
        });
    }
    if let Some(indices) = all(&|name| by_wnid(name, labels)) {
        return Ok(Mapping {
            by: By::Wnid,
            indices,
        });
    }
    let names = labels.names();
    let is_in_place = classes
        .iter()
        .enumerate()
        .all(|(number, class)| by_label(&class.name).is_none_or(|index| index == number));
    if is_in_place && classes.len() == names.len() {
        return Ok(Mapping {
            by: By::Order,
            indices: (0..classes.len()).collect(),
        });
    }
    let stranger = classes
        .iter()
        .find(|class| by_label(&class.name).is_none())
        .map_or("", |class| class.name.as_str());
    let times = names.iter().filter(|name| *name == stranger).count();
    if times > 1 {
        return Err(Error::new(
            ErrorKind::Option,
            format!(
                "its class {stranger:?} is {times} of the model's labels, and nothing tells which: give each a name of \
                 its own in the model's labels.json"
            ),
        ));
    }
    Err(Error::new(
        ErrorKind::Option,
        format!(
            "its {} classes are neither all named like the model's {} nor as many in the same order: {:?} is none of {}",
            classes.len(),
            names.len(),
            stranger,
            output::some(names.iter().map(|name| format!("{name:?}")))
        ),
    ))
}

/// The classes of a data set that calls them by the model's own numbers.
///
/// # Errors
/// Kind `Option` for a number that the model does not have.
pub fn by_number(classes: &[Class], labels: &Labels) -> Result<Mapping> {
    let count = labels.names().len();
    let indices = classes
        .iter()
        .map(|class| {
            let number = class
                .name
                .parse()
                .ok()
                .filter(|&number: &usize| number < count);
            number.ok_or_else(|| {
                Error::new(
                    ErrorKind::Option,
                    format!("class {} is none of the model's {count}", class.name),
                )
            })
        })
        .collect::<Result<_>>()?;
    Ok(Mapping {
        by: By::Number,
        indices,
    })
}

/// The model's class of an `ImageNet` number.
fn by_wnid(name: &str, labels: &Labels) -> Option<usize> {
    let index = labels::imagenet_wnids().position(|wnid| wnid == name)?;
    let names = labels::imagenet_names();
    // A model of ImageNet's classes has them in this order, however it calls them.
    if labels.names().len() == names.count() {
        return Some(index);
    }
    let own = labels::imagenet_names().nth(index)?;
    // Elsewhere synonyms may follow: "tench, Tinca tinca".
    only(labels, |label| {
        label == own || label.split(',').next() == Some(own)
    })
}

/// The one label of that kind.
fn only(labels: &Labels, is: impl Fn(&str) -> bool) -> Option<usize> {
    let mut found = labels
        .names()
        .iter()
        .enumerate()
        .filter(|(_, label)| is(label));
    match (found.next(), found.next()) {
        (Some((index, _)), None) => Some(index),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(names: &[&str]) -> Vec<Class> {
        let class = |name: &&str| Class {
            name: (*name).to_owned(),
            pictures: 1,
        };
        names.iter().map(class).collect()
    }

    fn labels(names: &[&str]) -> Labels {
        let text = serde_json::to_string(names).unwrap();
        Labels::from_json(&text, names.len()).unwrap().unwrap()
    }

    fn mapped(names: &[&str], labels: &Labels) -> (By, Vec<usize>) {
        let mapping = map(&classes(names), labels).unwrap();
        (mapping.by, mapping.indices)
    }

    #[test]
    fn by_labels_wherever_they_are() {
        let own = labels(&["hat", "5", "dress"]);
        assert_eq!(mapped(&["5", "hat"], &own), (By::Label, vec![1, 0]));
    }

    #[test]
    fn by_imagenets_numbers() {
        let imagenet = Labels::unnamed(1000);
        let (by, indices) = mapped(&["n01440764", "n15075141"], &imagenet);
        assert_eq!((by, indices), (By::Wnid, vec![0, 999]));
        assert_eq!(imagenet.get(0), Some("tench"));
        assert_eq!(imagenet.get(999), Some("toilet tissue"));
        // The two cranes and the two maillots.
        let (_, indices) = mapped(&["n02012849", "n03126707"], &imagenet);
        assert_eq!(indices, [134, 517]);
        let (_, indices) = mapped(&["n03710637", "n03710721"], &imagenet);
        assert_eq!(indices, [638, 639]);
        // A model of some of them.
        let some = labels(&["gas pump", "tench, Tinca tinca"]);
        let (by, indices) = mapped(&["n01440764", "n03425413"], &some);
        assert_eq!((by, indices), (By::Wnid, vec![1, 0]));
    }

    #[test]
    fn by_order_if_no_name_says_otherwise() {
        let own = labels(&["a", "b", "c"]);
        assert_eq!(mapped(&["x", "y", "z"], &own), (By::Order, vec![0, 1, 2]));
        assert_eq!(mapped(&["a", "y", "z"], &own), (By::Order, vec![0, 1, 2]));
        for names in [&["b", "c", "z"][..], &["x", "y"], &["a", "b", "c", "d"]] {
            let error = map(&classes(names), &own).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Option, "{names:?}");
        }
        let error = map(&classes(&["a", "B"]), &own).unwrap_err();
        assert!(error.to_string().contains("\"B\""), "{error}");
    }

    #[test]
    fn a_label_that_is_there_twice_is_named() {
        let own = labels(&["a", "b", "a"]);
        assert_eq!(mapped(&["b"], &own), (By::Label, vec![1]));
        let error = map(&classes(&["a", "b"]), &own).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option);
        assert!(error.to_string().contains("\"a\" is 2 of the"), "{error}");
    }
}
