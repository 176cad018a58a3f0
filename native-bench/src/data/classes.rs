//! From a data set's classes to a model's.

use std::collections::HashMap;
use std::hash::Hash;

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
/// order if they are as many and none is called as a label at another place, by its name or the first of its synonyms.
///
/// # Errors
/// Kind `Option` if none of that is so; the message names a class that is not found, or not in its place.
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
    if classes.len() == names.len() {
        return match Places::new(classes, names).first_elsewhere() {
            None => Ok(Mapping {
                by: By::Order,
                indices: (0..classes.len()).collect(),
            }),
            Some((number, place)) => Err(elsewhere(classes, names, number, place)),
        };
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
            "its {} classes are neither all named like the model's {} nor as many: {:?} is none of {}",
            classes.len(),
            names.len(),
            stranger,
            output::some(names.iter().map(|name| format!("{name:?}")))
        ),
    ))
}

/// A class that stands where the model has another.
fn elsewhere(classes: &[Class], names: &[String], number: usize, place: usize) -> Error {
    let name = classes.get(number).map_or("", |class| class.name.as_str());
    let label = |number: usize| names.get(number).map_or("", String::as_str);
    Error::new(
        ErrorKind::Option,
        format!(
            "its {} classes are neither all named like the model's nor in the same order: {name:?} is number {number}, \
             where the model has {:?}, but the model's {:?} is number {place}",
            classes.len(),
            label(number),
            label(place)
        ),
    )
}

/// Where the names of as many classes as a model's say that they are among its labels.
struct Places<'a> {
    classes: &'a [Class],
    labels: &'a [String],
    /// By the number of each class; `None` of a name that says nothing.
    places: Vec<Option<usize>>,
}

impl<'a> Places<'a> {
    fn new(classes: &'a [Class], labels: &'a [String]) -> Self {
        let whole = unique(labels.iter().map(|label| words(label)));
        let first = unique(labels.iter().map(|label| first_synonym(label)));
        let place = |class: &Class| {
            let by_first = || first.get(first_synonym(&class.name));
            whole.get(&words(&class.name)).or_else(by_first).copied()?
        };
        Self {
            classes,
            labels,
            places: classes.iter().map(place).collect(),
        }
    }

    /// The first class that is called as a label at another place, and that place.
    fn first_elsewhere(&self) -> Option<(usize, usize)> {
        let mut named = self.places.iter().enumerate();
        named.find_map(|(number, &place)| {
            let place = place.filter(|&place| place != number)?;
            (!self.is_double(number, place)).then_some((number, place))
        })
    }

    /// Whether a name can be that of its own number as well, since what stands at the other place is rightly there.
    /// `ImageNet` has two cranes: 134 is the model's "crane bird", 517 its "crane"; data sets call both "crane".
    fn is_double(&self, number: usize, place: usize) -> bool {
        let other = self.places.get(place).copied().flatten();
        other.is_none_or(|other| other == place) && self.fits(number) && self.fits(place)
    }

    /// Whether a class may be the model's of the same number: one's first synonym begins with the other's.
    fn fits(&self, number: usize) -> bool {
        let (Some(class), Some(label)) = (self.classes.get(number), self.labels.get(number)) else {
            return false;
        };
        let (name, label) = (first_synonym(&class.name), first_synonym(label));
        is_start(name, label) || is_start(label, name)
    }
}

/// "tench" of "tench, Tinca tinca".
fn first_synonym(name: &str) -> &str {
    name.split(',').next().unwrap_or(name).trim()
}

/// A name's words without the commas between them: torchvision calls "maillot, tank suit" a "maillot tank suit".
fn words(name: &str) -> String {
    name.replace(',', "")
}

/// Whether the words of one name begin with those of another, as of "crane" those of "crane bird" and of "crane2" do.
fn is_start(start: &str, name: &str) -> bool {
    !start.is_empty()
        && name
            .strip_prefix(start)
            .is_some_and(|rest| !rest.starts_with(char::is_alphabetic))
}

/// The number of each name; `None` of one that is there twice.
fn unique<N: Eq + Hash>(names: impl Iterator<Item = N>) -> HashMap<N, Option<usize>> {
    let mut numbers = HashMap::new();
    for (number, name) in names.enumerate() {
        numbers
            .entry(name)
            .and_modify(|number| *number = None)
            .or_insert(Some(number));
    }
    numbers
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

    /// `ImageNet`'s classes as lists of synonyms. What is no double gets a synonym, as most have one.
    fn synsets() -> Vec<String> {
        let doubles = [
            (0, "tench, Tinca tinca"),
            (134, "crane"),
            (264, "Cardigan, Cardigan Welsh corgi"),
            (358, "polecat, fitch, foulmart, foumart, Mustela putorius"),
            (361, "skunk, polecat, wood pussy"),
            (474, "cardigan"),
            (517, "crane"),
            (638, "maillot"),
            (639, "maillot, tank suit"),
            (657, "missile"),
            (744, "projectile, missile"),
            (836, "sunglass"),
            (837, "sunglasses, dark glasses, shades"),
            (987, "corn"),
            (998, "ear, spike, capitulum"),
        ];
        let mut names: Vec<String> = labels::imagenet_names()
            .map(|name| format!("{name}, synonym"))
            .collect();
        for (number, name) in doubles {
            name.clone_into(&mut names[number]);
        }
        names
    }

    #[test]
    fn imagenets_synonyms_are_in_order_whatever_the_doubles() {
        let own = Labels::unnamed(1000);
        let in_order = (By::Order, (0..1000).collect::<Vec<_>>());
        // As data sets tell the two cranes apart, or this program does.
        for second in ["crane2", "crane (2)", "crane, machine"] {
            let mut names = synsets();
            second.clone_into(&mut names[517]);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(mapped(&names, &own), in_order, "{second}");
            // Of a model that is called so it is the other way around.
            let torchvisions: Vec<&str> = labels::imagenet_names().collect();
            assert_eq!(mapped(&torchvisions, &labels(&names)), in_order, "{second}");
        }
    }

    #[test]
    fn synonyms_in_another_order_are_refused() {
        let own = Labels::unnamed(1000);
        let mut sorted = synsets();
        "crane2".clone_into(&mut sorted[517]);
        let mut swapped = sorted.clone();
        swapped.swap(0, 1);
        let mut doubles = sorted.clone();
        doubles.swap(638, 639);
        let mut cranes = sorted.clone();
        cranes.swap(134, 639);
        sorted.sort();
        for (names, culprit) in [
            (
                swapped,
                "\"goldfish, synonym\" is number 0, where the model has \"tench\", but the model's \"goldfish\" is number 1",
            ),
            (doubles, "\"maillot, tank suit\" is number 638"),
            (cranes, "\"maillot, tank suit\" is number 134"),
            (sorted, "is number 0, where the model has \"tench\""),
        ] {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let error = map(&classes(&names), &own).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Option);
            assert!(error.to_string().contains(culprit), "{error}");
        }
        // A folder's classes are sorted, whatever the model's order.
        let own = labels(&["tench, Tinca tinca", "goldfish, Carassius auratus"]);
        assert!(map(&classes(&["goldfish", "tench"]), &own).is_err());
        // The start of a name is not its double if nothing else is called so.
        let own = labels(&["crane bird", "crane", "x"]);
        for names in [["crane", "stork", "x"], ["crane", "crane bird", "y"]] {
            assert!(map(&classes(&names), &own).is_err(), "{names:?}");
        }
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
