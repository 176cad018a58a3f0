//! What one process has counted, of what; and the sum of several.

use std::collections::BTreeMap;
use std::ops::Range;

use aim_web::hex::to_hex;
use aim_web::{Error, ErrorKind, Result};
use sha2::{Digest as _, Sha256};

use super::counts::{Counts, Score, is_same};
use super::{Broken, ClassReport, DataId, Mark, ModelId, Report};
use crate::args::Exif;
use crate::data::classes::By;

/// How many broken pictures are kept by name.
const MOST_ERRORS: usize = 1000;

/// Counts that belong together only if this is the same.
#[derive(Clone, Debug)]
pub struct Of {
    pub model: ModelId,
    pub data: DataId,
    pub exif: Exif,
    pub classes_by: By,
    pub classes: Vec<Class>,
}

/// A class of the data, and what the model calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub name: String,
    pub index: usize,
    pub label: String,
}

/// What was counted.
#[derive(Clone, Debug)]
pub struct Counted {
    pub of: Of,
    pub device: String,
    pub rank: u64,
    pub world_size: u64,
    pub assigned: Range<u64>,
    /// All before this one, from the first of `assigned`.
    pub next: u64,
    pub results: Option<Mark>,
    classes: Vec<Counts>,
    /// By class of the data and class of the model.
    confusion: BTreeMap<(usize, usize), u64>,
    broken: u64,
    errors: Vec<Broken>,
    not_turned: u64,
}

impl Counted {
    /// Nothing yet.
    pub fn new(of: Of, device: String, [rank, world_size]: [u64; 2], assigned: Range<u64>) -> Self {
        Self {
            classes: vec![Counts::default(); of.classes.len()],
            of,
            device,
            rank,
            world_size,
            next: assigned.start,
            assigned,
            results: None,
            confusion: BTreeMap::new(),
            broken: 0,
            errors: Vec::new(),
            not_turned: 0,
        }
    }

    /// The next picture was read.
    ///
    /// # Errors
    /// As [`Counts::of`] and [`Counts::add`].
    pub fn add(&mut self, class: usize, score: &Score, not_turned: bool) -> Result<()> {
        if let Some(counts) = self.classes.get_mut(class) {
            counts.add(&Counts::of(score)?)?;
        }
        *self.confusion.entry((class, score.predicted)).or_default() += 1;
        self.not_turned += u64::from(not_turned);
        self.next += 1;
        Ok(())
    }

    /// The next picture could not be read.
    pub fn add_broken(&mut self, image: String, error: String) {
        self.broken += 1;
        self.next += 1;
        if self.errors.len() < MOST_ERRORS {
            self.errors.push(Broken { image, error });
        }
    }

    /// Over all classes.
    ///
    /// # Errors
    /// As [`Counts::add`].
    pub fn total(&self) -> Result<Counts> {
        let mut total = Counts::default();
        for counts in &self.classes {
            total.add(counts)?;
        }
        Ok(total)
    }

    pub const fn not_turned(&self) -> u64 {
        self.not_turned
    }

    /// True once all that was assigned is counted.
    pub const fn is_complete(&self) -> bool {
        self.next >= self.assigned.end
    }

    /// The report for files and people.
    ///
    /// # Errors
    /// As [`Counts::add`].
    pub fn report(&self) -> Result<Report> {
        let total = self.total()?;
        let classes = self.of.classes.iter().zip(&self.classes).enumerate();
        let mut confusion: BTreeMap<String, BTreeMap<usize, u64>> = BTreeMap::new();
        for (&(class, predicted), &count) in &self.confusion {
            if let Some(class) = self.of.classes.get(class) {
                confusion
                    .entry(class.name.clone())
                    .or_default()
                    .insert(predicted, count);
            }
        }
        let counted = [self.assigned.start, self.next];
        Ok(Report {
            pictures: total.pictures,
            top_1: total.top_1,
            top_5: total.top_5,
            loss: total.loss(),
            top_1_percent: total.percent(total.top_1),
            top_5_percent: total.percent(total.top_5),
            mean_loss: total.mean_loss(),
            top_1_interval: total.interval(total.top_1),
            top_5_interval: total.interval(total.top_5),
            loss_interval: total.loss_interval(),
            broken: self.broken,
            errors: self.errors.clone(),
            not_turned: self.not_turned,
            classes: classes
                .map(|(number, (class, &counts))| {
                    let report = ClassReport {
                        number,
                        index: class.index,
                        label: class.label.clone(),
                        counts,
                    };
                    (class.name.clone(), report)
                })
                .collect(),
            confusion,
            classes_by: self.of.classes_by,
            exif: self.of.exif,
            device: self.device.clone(),
            model: self.of.model.clone(),
            data: self.of.data.clone(),
            rank: self.rank,
            world_size: self.world_size,
            assigned: [self.assigned.start, self.assigned.end],
            ranges: if counted[0] < counted[1] {
                vec![counted]
            } else {
                Vec::new()
            },
            results: self.results.clone(),
        })
    }

    /// What a report was made of.
    ///
    /// # Errors
    /// Kind `Format` if its counts don't agree with each other.
    pub fn from_report(report: Report) -> Result<Self> {
        let damaged = |what: &str| {
            Error::new(
                ErrorKind::Format,
                format!("its counts do not agree ({what}): it is damaged"),
            )
        };
        let total = report.total()?;
        let [start, end] = report.assigned;
        let next = match report.ranges.as_slice() {
            [] => start,
            &[[first, next]] if first == start && next <= end => next,
            _ => return Err(damaged("ranges")),
        };
        let is_whole = start <= end
            && end <= report.data.pictures
            && total.pictures.checked_add(report.broken) == next.checked_sub(start)
            && (report.pictures, report.top_1, report.top_5)
                == (total.pictures, total.top_1, total.top_5);
        if !is_whole {
            return Err(damaged("pictures"));
        }
        // What is there for people has to be what the sums give.
        let bounds = |interval: Option<[f64; 2]>| {
            interval.map_or([None; 2], |[low, high]| [Some(low), Some(high)])
        };
        let said = [
            [Some(report.loss), report.mean_loss],
            [report.top_1_percent, report.top_5_percent],
            bounds(report.top_1_interval),
            bounds(report.top_5_interval),
            bounds(report.loss_interval),
        ];
        let is = [
            [Some(total.loss()), total.mean_loss()],
            [total.percent(total.top_1), total.percent(total.top_5)],
            bounds(total.interval(total.top_1)),
            bounds(total.interval(total.top_5)),
            bounds(total.loss_interval()),
        ];
        let mut pairs = said.as_flattened().iter().zip(is.as_flattened());
        let are_same = |(said, is): (&Option<f64>, &Option<f64>)| match (said, is) {
            (Some(said), Some(is)) => is_same(*said, *is),
            (said, is) => said.is_none() && is.is_none(),
        };
        if !pairs.all(are_same) {
            return Err(damaged("losses, percentages or intervals"));
        }
        let is_possible = report.rank < report.world_size
            && report.errors.len() as u64 <= report.broken.min(MOST_ERRORS as u64)
            && report.not_turned <= total.pictures
            && report.data.hidden <= report.data.pictures;
        if !is_possible {
            return Err(damaged("ranks, errors or turned pictures"));
        }
        let is_known = |name| report.classes.contains_key(name);
        if !report.confusion.keys().all(is_known) {
            return Err(damaged("confusion"));
        }
        let mut listed: Vec<(String, ClassReport)> = report.classes.into_iter().collect();
        listed.sort_by_key(|(_, class)| class.number);
        let mut confusion = BTreeMap::new();
        for (number, (name, class)) in listed.iter().enumerate() {
            let is_class = class.number == number
                && report.model.labels.get(class.index) == Some(&class.label)
                && class.counts.is_possible();
            if !is_class {
                return Err(damaged("classes"));
            }
            let (mut confused, mut right) = (0_u64, 0);
            for (&predicted, &count) in report.confusion.get(name).into_iter().flatten() {
                if predicted >= report.model.labels.len() {
                    return Err(damaged("confusion"));
                }
                confused = confused.saturating_add(count);
                if predicted == class.index {
                    right = count;
                }
                confusion.insert((number, predicted), count);
            }
            if (confused, right) != (class.counts.pictures, class.counts.top_1) {
                return Err(damaged("confusion"));
            }
        }
        let classes = listed.iter().map(|(_, class)| class.counts).collect();
        let of = Of {
            model: report.model,
            data: report.data,
            exif: report.exif,
            classes_by: report.classes_by,
            classes: listed
                .into_iter()
                .map(|(name, class)| Class {
                    name,
                    index: class.index,
                    label: class.label,
                })
                .collect(),
        };
        Ok(Self {
            of,
            device: report.device,
            rank: report.rank,
            world_size: report.world_size,
            assigned: start..end,
            next,
            results: report.results,
            classes,
            confusion,
            broken: report.broken,
            errors: report.errors,
            not_turned: report.not_turned,
        })
    }

    /// Goes on with the counts of the pictures that follow.
    fn append(&mut self, other: Self) -> Result<()> {
        for (own, other) in self.classes.iter_mut().zip(&other.classes) {
            own.add(other)?;
        }
        for (key, count) in other.confusion {
            let own = self.confusion.entry(key).or_default();
            *own = own.saturating_add(count);
        }
        self.broken = self.broken.saturating_add(other.broken);
        self.not_turned = self.not_turned.saturating_add(other.not_turned);
        self.errors.extend(other.errors);
        self.errors.truncate(MOST_ERRORS);
        self.next = other.next;
        if !self.device.split(", ").any(|device| device == other.device) {
            self.device = format!("{}, {}", self.device, other.device);
        }
        Ok(())
    }
}

impl Of {
    /// A short name that evaluations have in common if, and only if, their counts may be added: a part of a hash over what
    /// [`check_same`](Self::check_same) compares.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        let exif = format!("{:?}", self.exif);
        for text in [
            &self.model.sha256,
            &self.model.dtype,
            &self.data.sha256,
            &exif,
        ] {
            add(text);
        }
        for class in &self.classes {
            add(&class.name);
            add(&class.index.to_string());
            add(&class.label);
        }
        let mut id = to_hex(&hash.finalize());
        id.truncate(16);
        id
    }

    /// Whether counts of this and of that may be added.
    ///
    /// # Errors
    /// Kind `Option` with what differs.
    pub fn check_same(&self, other: &Self) -> Result<()> {
        let differs = |what: &str, own: &str, others: &str| {
            Err(Error::new(
                ErrorKind::Option,
                format!("counts of different {what} can't be added: {own} and {others}"),
            ))
        };
        if self.model.sha256 != other.model.sha256 {
            return differs("models", &named(&self.model), &named(&other.model));
        }
        if self.model.dtype != other.model.dtype {
            return differs("precisions", &self.model.dtype, &other.model.dtype);
        }
        if self.data.sha256 != other.data.sha256 || self.data.pictures != other.data.pictures {
            let of = |data: &DataId| {
                format!(
                    "{} ({} pictures, {})",
                    data.path,
                    data.pictures,
                    short(&data.sha256)
                )
            };
            return differs("data", &of(&self.data), &of(&other.data));
        }
        if self.exif != other.exif {
            let of = |exif: Exif| format!("--exif {exif:?}").to_lowercase();
            return differs("options", &of(self.exif), &of(other.exif));
        }
        if self.classes != other.classes {
            return differs("classes", &named(&self.model), &named(&other.model));
        }
        Ok(())
    }
}

fn named(model: &ModelId) -> String {
    format!("{} ({})", model.name, short(&model.sha256))
}

fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

/// The sum of all parts of an evaluation, each with a name for errors.
///
/// # Errors
/// Kind `Option` if they are not of the same model and data, a picture is in none of them, or in two.
pub fn merge(mut parts: Vec<(String, Counted)>) -> Result<Counted> {
    parts.sort_by_key(|(_, part)| (part.assigned.start, part.assigned.end));
    let mut parts = parts.into_iter();
    let (mut before, first) = parts
        .next()
        .ok_or_else(|| Error::new(ErrorKind::Option, "there are no parts to add"))?;
    let pictures = first.of.data.pictures;
    let mut sum = Counted::new(first.of.clone(), first.device.clone(), [0, 1], 0..pictures);
    let mut next = 0;
    let gap = |name: &str, next: u64, until: u64| {
        Error::new(
            ErrorKind::Option,
            format!("{name}: pictures {next} to {until} of {pictures} are in no part"),
        )
    };
    let first_name = before.clone();
    for (name, part) in std::iter::once((first_name.clone(), first)).chain(parts) {
        sum.of
            .check_same(&part.of)
            .map_err(|error| error.at(format!("{first_name} and {name}")))?;
        if part.assigned.start < next && !part.assigned.is_empty() {
            return Err(Error::new(
                ErrorKind::Option,
                format!(
                    "{before} and {name}: pictures {} to {} are in both",
                    part.assigned.start,
                    next.min(part.assigned.end)
                ),
            ));
        }
        if part.assigned.start > next {
            return Err(gap(&name, next, part.assigned.start));
        }
        if !part.is_complete() {
            return Err(Error::new(
                ErrorKind::Option,
                format!(
                    "{name}: stops at picture {} of {} to {}: start rank {} of {} again, it goes on from there",
                    part.next, part.assigned.start, part.assigned.end, part.rank, part.world_size
                ),
            ));
        }
        next = part.assigned.end.max(next);
        sum.append(part)?;
        before = name;
    }
    if next < pictures {
        return Err(gap(&before, next, pictures));
    }
    sum.next = pictures;
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of() -> Of {
        let class = |name: &str, index| Class {
            name: name.to_owned(),
            index,
            label: name.to_owned(),
        };
        Of {
            model: ModelId {
                name: "m".to_owned(),
                sha256: "0123456789".to_owned(),
                dtype: "fp32".to_owned(),
                probe_layers: vec![1, 2],
                labels: vec!["a".to_owned(), "x".to_owned(), "b".to_owned()],
            },
            data: DataId {
                path: "d".to_owned(),
                sha256: "abcdef".to_owned(),
                pictures: 10,
                hidden: 0,
                empty_classes: Vec::new(),
            },
            exif: Exif::Ignore,
            classes_by: By::Label,
            classes: vec![class("b", 2), class("a", 0)],
        }
    }

    /// Counts of the pictures of a range; the fourth is broken.
    fn counted(range: Range<u64>) -> Counted {
        let mut counted = Counted::new(of(), "CPU".to_owned(), [0, 2], range.clone());
        for picture in range {
            if picture == 3 {
                counted.add_broken(picture.to_string(), "broken".to_owned());
                continue;
            }
            let logits = [picture as f32 % 3.0, 1.5, 0.1 * picture as f32];
            let class = usize::from(picture > 4);
            let score = Score::new(&logits, counted.of.classes[class].index);
            counted.add(class, &score, picture == 2).unwrap();
        }
        counted
    }

    fn text(counted: &Counted) -> String {
        serde_json::to_string(&counted.report().unwrap()).unwrap()
    }

    fn named(parts: Vec<Counted>) -> Vec<(String, Counted)> {
        let name = |(n, part)| (format!("part {n}"), part);
        parts.into_iter().enumerate().map(name).collect()
    }

    #[test]
    fn parts_in_any_order_are_the_whole() {
        let mut whole = counted(0..10);
        whole.world_size = 1;
        let parts = [4..9, 9..10, 0..0, 0..4].map(|range| {
            // Through a file.
            let report = serde_json::from_str(&text(&counted(range))).unwrap();
            Counted::from_report(report).unwrap()
        });
        let sum = merge(named(parts.to_vec())).unwrap();
        assert_eq!(text(&sum), text(&whole));
        assert_eq!((sum.broken, sum.not_turned), (1, 1));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refused = |parts: Vec<Counted>, part: &str| {
            let error = merge(named(parts)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Option);
            assert!(error.to_string().contains(part), "{error}");
        };
        refused(vec![], "no parts");
        refused(
            vec![counted(0..4), counted(5..10)],
            "pictures 4 to 5 of 10 are in no part",
        );
        refused(vec![counted(0..9)], "pictures 9 to 10 of 10 are in no part");
        refused(vec![counted(2..10)], "pictures 0 to 2");
        refused(
            vec![counted(0..6), counted(4..10)],
            "pictures 4 to 6 are in both",
        );
        refused(
            vec![counted(0..10), counted(0..10)],
            "pictures 0 to 10 are in both",
        );
        let mut half = counted(0..4);
        half.assigned = 0..6;
        refused(vec![half, counted(6..10)], "stops at picture 4 of 0 to 6");
        let other = |change: fn(&mut Of), part: &str| {
            let mut second = counted(4..10);
            change(&mut second.of);
            assert_ne!(second.of.id(), of().id(), "{part}");
            refused(vec![counted(0..4), second], part);
        };
        other(|of| of.model.sha256 = "9".to_owned(), "models");
        other(|of| of.model.dtype = "q8".to_owned(), "precisions");
        other(|of| of.data.sha256 = "9".to_owned(), "data");
        other(|of| of.exif = Exif::Respect, "--exif");
        other(|of| of.classes.swap(0, 1), "classes");
    }

    /// Makes what is there for people agree with the sums.
    fn agree(report: &mut Report, total: &Counts) {
        (report.loss, report.mean_loss) = (total.loss(), total.mean_loss());
        report.top_1_percent = total.percent(total.top_1);
        report.top_5_percent = total.percent(total.top_5);
        report.top_1_interval = total.interval(total.top_1);
        report.top_5_interval = total.interval(total.top_5);
        report.loss_interval = total.loss_interval();
    }

    #[test]
    fn losses_of_files_are_held_to_what_they_are_the_sums_of() {
        let report = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut file = serde_json::from_str(&text(&counted(0..10))).unwrap();
            change(&mut file);
            serde_json::from_value::<Report>(file)
        };
        assert!(Counted::from_report(report(&|_| ()).unwrap()).is_ok());
        let error = report(&|file| file["classes"]["a"]["loss"] = 0.into()).unwrap_err();
        assert!(error.to_string().contains("not its exact sum"), "{error}");
        // A single class beyond all bounds, whatever else is made to agree with it.
        let refused = |exact: &str, units: u64| {
            let mut report = report(&|file| {
                let class = &mut file["classes"]["a"];
                class["exact"][exact] = units.into();
                class["loss"] = serde_json::Value::Null;
            })
            .unwrap();
            let total = report.total().unwrap();
            agree(&mut report, &total);
            let error = Counted::from_report(report).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format);
            assert!(error.to_string().contains("(classes)"), "{error}");
        };
        for units in [0, 1 << 40, 1 << 63] {
            refused("loss", units);
            refused("loss_squares", units);
        }
    }

    #[test]
    fn damaged_counts_are_refused() {
        let damaged = |change: fn(&mut Report)| {
            let mut report = counted(0..10).report().unwrap();
            change(&mut report);
            let error = Counted::from_report(report).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        };
        damaged(|report| report.pictures += 1);
        damaged(|report| report.broken += 1);
        damaged(|report| report.ranges = vec![[0, 9]]);
        damaged(|report| report.ranges.push([0, 9]));
        damaged(|report| report.assigned = [0, 99]);
        damaged(|report| report.confusion.clear());
        damaged(|report| {
            let counts = report.confusion.values_mut().next().unwrap();
            let (_, count) = counts.pop_first().unwrap();
            counts.insert(report.model.labels.len(), count);
        });
        damaged(|report| {
            report.classes.remove("b");
        });
        // What no count can be, though the sums agree.
        let class = |change: fn(&mut ClassReport)| {
            let mut report = counted(0..10).report().unwrap();
            change(report.classes.get_mut("a").unwrap());
            let total = report.total().unwrap();
            (report.top_1, report.top_5) = (total.top_1, total.top_5);
            agree(&mut report, &total);
            let error = Counted::from_report(report).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        };
        class(|class| class.counts.top_1 = 1_000_000);
        class(|class| class.counts.top_5 = 1_000_000);
        class(|class| class.counts.top_1 += 1);
        class(|class| class.counts.top_5 = 0);
        class(|class| class.index = 1);
        class(|class| class.index = 99);
        class(|class| class.label.push('x'));
        damaged(|report| report.loss = 0.0);
        damaged(|report| report.loss *= 1.000_001);
        damaged(|report| report.mean_loss = report.mean_loss.map(|mean| mean + 0.01));
        damaged(|report| report.mean_loss = None);
        damaged(|report| report.top_1_percent = Some(100.0));
        damaged(|report| report.top_5_percent = Some(f64::NAN));
        damaged(|report| report.top_5_interval = Some([0.0, 50.0]));
        damaged(|report| report.loss_interval = Some([0.0, 9.0]));
        damaged(|report| report.rank = report.world_size);
        damaged(|report| report.not_turned = u64::MAX);
        damaged(|report| report.data.hidden = 11);
        damaged(|report| report.errors.push(report.errors[0].clone()));
        damaged(|report| {
            let nobody = BTreeMap::from([(0, 0)]);
            report.confusion.insert("nobody".to_owned(), nobody);
        });
        // From one class to the other, so that their sum stays.
        damaged(|report| {
            for (name, own) in [("a", 1), ("b", -1_i64)] {
                let counts = report.confusion.get_mut(name).unwrap();
                let count = counts.values_mut().next().unwrap();
                *count = count.saturating_add_signed(own);
            }
        });
    }
}
