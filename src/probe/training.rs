//! Training, step by step, so that whoever runs it can show how far it is, and stop.

use super::attention::{Attention, Normalized};
use super::examples::Examples;
use super::head::{Head, HeadKind};
use super::linear::Linear;
use super::mean::Nearest;
use super::normalization::Normalization;
use super::objective::Objective;
use super::optimizer::{AdamW, rate};
use super::random::Random;
use super::report::{ClassReport, Point, Report, Score, share};
use super::split::Split;
use crate::error::{Error, Result};

/// Which pictures say how good the result is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HeldOut {
    /// This share of each class, from 0 to below 1: one picture at least, unless it is 0. The head that is kept is
    /// trained once more on all pictures.
    Share(f32),
    /// Those from this number on; no head is ever trained on them.
    From(usize),
}

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which head.
    pub head: HeadKind,
    /// How often each picture is seen; by default the fewer there are, the more often.
    pub epochs: Option<usize>,
    /// The highest rate of learning.
    pub rate: Option<f32>,
    /// The weight decay of `AdamW`.
    pub weight_decay: f32,
    /// The share of the probability that goes to all classes alike.
    pub smoothing: f32,
    /// Which pictures say how good the result is.
    pub held_out: HeldOut,
    /// Another seed gives another order, another start, and another part that is held out.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            head: HeadKind::Auto,
            epochs: None,
            rate: None,
            weight_decay: 0.3,
            smoothing: 0.1,
            held_out: HeldOut::Share(0.2),
            seed: 0,
        }
    }
}

/// The most epochs that can be asked for.
const MOST_EPOCHS: usize = 100_000;

/// Pictures of a step of the attention probe.
const BATCH: usize = 32;

/// Pictures whose logits are in memory at once: of 10,000 classes they have 40 KB each.
pub(super) const AT_ONCE: usize = 256;

/// Pictures that the attention probe sees by default, each as often as that makes it within the limits below.
const PASSES: usize = 6_000;
const EPOCHS: [usize; 2] = [10, 40];

/// Steps of the logistic regression, each on all pictures.
const LINEAR_EPOCHS: usize = 150;

/// How far training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub done: f64,
    /// After an epoch of the head that is measured: where it was.
    pub epoch: Option<Point>,
}

/// A training under way.
pub struct Training<'a> {
    examples: &'a Examples,
    options: Options,
    kind: HeadKind,
    split: Split,
    /// The head that is measured, and after it the one that is kept.
    fit: Fit,
    is_measuring: bool,
    curve: Vec<Point>,
    score: Score,
    steps_done: usize,
    steps: usize,
}

impl<'a> Training<'a> {
    /// Begins.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if a class has too few pictures, or an option makes no sense.
    pub fn new(examples: &'a Examples, options: Options) -> Result<Self> {
        options.check()?;
        let classes = examples.classes().len();
        let split = match options.held_out {
            HeldOut::Share(part) => {
                examples.check(2)?;
                Split::by_class(examples.labels(), classes, part, options.seed)
            }
            HeldOut::From(first) => {
                examples.check(1)?;
                let all = examples.labels().len();
                Split {
                    training: (0..first.min(all)).collect(),
                    held_out: (first.min(all)..all).collect(),
                }
            }
        };
        let counts = counts(examples, &split.training);
        if let Some(class) = counts.iter().position(|&count| count == 0) {
            return Err(Error::option(format!(
                "the class {:?} has no picture to train on",
                examples.classes()[class]
            )));
        }
        let kind = match options.head {
            HeadKind::Auto => HeadKind::for_pictures(&match options.held_out {
                HeldOut::Share(_) => examples.counts(),
                // No head is ever trained on the others.
                HeldOut::From(_) => counts,
            }),
            kind => kind,
        };
        let fit = Fit::new(examples, kind, split.training.clone(), &options);
        let mut training = Self {
            steps: fit.steps(),
            examples,
            kind,
            fit,
            is_measuring: true,
            curve: Vec::new(),
            score: Score::new(classes),
            steps_done: 0,
            options,
            split,
        };
        if training.has_second() {
            let second = training.examples.labels().len();
            training.steps += Fit::steps_for(kind, second, &training.options);
        }
        Ok(training)
    }

    /// The head that is trained; never [`HeadKind::Auto`].
    pub const fn kind(&self) -> HeadKind {
        self.kind
    }

    /// Whether the head that is kept is another one than that which is measured.
    const fn has_second(&self) -> bool {
        matches!(self.options.held_out, HeldOut::Share(_)) && !self.split.held_out.is_empty()
    }

    /// Does some more of it, for the embedded model in a few milliseconds; `None` once it is done.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if the numbers grow past all bounds.
    pub fn step(&mut self) -> Result<Option<Progress>> {
        if self.fit.is_done() {
            return Ok(None);
        }
        let ended = self.fit.step(self.examples);
        self.steps_done += 1;
        let mut epoch = None;
        if let Some(loss) = ended {
            if !loss.is_finite() {
                return Err(Error::option(
                    "training went past all bounds: ask for a lower rate of learning",
                ));
            }
            if self.is_measuring {
                epoch = Some(self.measure(loss));
            }
        }
        if self.fit.is_done() && self.is_measuring && self.has_second() {
            self.is_measuring = false;
            let all = (0..self.examples.labels().len()).collect();
            self.fit = Fit::new(self.examples, self.kind, all, &self.options);
        }
        let done = self.steps_done as f64 / self.steps.max(1) as f64;
        Ok(Some(Progress {
            done: done.min(1.0),
            epoch,
        }))
    }

    /// The head after an epoch, on what is held out.
    fn measure(&mut self, loss: f32) -> Point {
        let mut score = Score::new(self.examples.classes().len());
        for pictures in self.split.held_out.chunks(AT_ONCE) {
            let logits = self.fit.logits(self.examples, pictures);
            for (picture, logits) in pictures.iter().zip(logits) {
                score.add(&logits, self.examples.labels()[*picture]);
            }
        }
        let point = Point {
            epoch: self.curve.len() + 1,
            loss: f64::from(loss),
            held_out_loss: score.loss(),
            accuracy: score.accuracy(),
        };
        self.score = score;
        self.curve.push(point);
        point
    }

    /// The head, and how good it is.
    ///
    /// # Errors
    /// As [`step`](Self::step), of which it does what is left.
    pub fn finish(mut self) -> Result<(Head, Report)> {
        while self.step()?.is_some() {}
        let held_out = counts(self.examples, &self.split.held_out);
        let classes = self.examples.classes().iter().zip(self.examples.counts());
        let per_class = classes.zip(&held_out).enumerate();
        let per_class = per_class.map(|(class, ((label, examples), &held_out))| ClassReport {
            label: label.clone(),
            examples,
            held_out,
            right: self.score.confusion.count(class, class),
            accuracy: share(self.score.confusion.count(class, class), held_out),
        });
        let report = Report {
            head: self.kind,
            examples: self.examples.labels().len(),
            held_out: self.split.held_out.len(),
            accuracy: self.score.accuracy(),
            loss: self.score.loss(),
            per_class: per_class.collect(),
            confusion: self.score.confusion,
            curve: self.curve,
        };
        Ok((
            self.fit.into_head(self.kind, self.examples.num_heads()),
            report,
        ))
    }
}

impl Options {
    /// Whether they make sense, whatever the pictures: [`Training::new`] asks too, once their features are there.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if one of them does not.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::option(what));
        if let HeldOut::Share(part) = self.held_out
            && !(0.0..1.0).contains(&part)
        {
            return wrong("the part that is held out must be from 0 to below 1");
        }
        if self
            .epochs
            .is_some_and(|epochs| !(1..=MOST_EPOCHS).contains(&epochs))
        {
            return wrong("epochs must be from 1 to 100000");
        }
        if self.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
            return wrong("the rate of learning must be above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.weight_decay) || !(0.0..1.0).contains(&self.smoothing) {
            return wrong("weight decay must be from 0 to 1, label smoothing from 0 to below 1");
        }
        Ok(())
    }
}

fn counts(examples: &Examples, pictures: &[usize]) -> Vec<usize> {
    let mut counts = vec![0; examples.classes().len()];
    for &picture in pictures {
        counts[examples.labels()[picture]] += 1;
    }
    counts
}

/// One head being trained on some pictures.
struct Fit {
    learner: Learner,
    normalization: Normalization,
    rates: Vec<f32>,
    objective: Objective,
    /// The pictures, in the order of this epoch.
    order: Vec<usize>,
    random: Random,
    rate: f32,
    batch: usize,
    epochs: usize,
    step: usize,
    /// The sum of the losses of this epoch's pictures.
    losses: f32,
}

enum Learner {
    Attention {
        probe: Box<Attention>,
        gradients: Box<Attention>,
        adam: [AdamW; 4],
    },
    Linear {
        layer: Linear,
        gradients: Vec<f32>,
        adam: [AdamW; 2],
    },
    Mean(Nearest),
}

impl Fit {
    fn new(examples: &Examples, kind: HeadKind, pictures: Vec<usize>, options: &Options) -> Self {
        let objective = Objective::balanced(&counts(examples, &pictures), options.smoothing);
        let normalization = Normalization::of(examples, &pictures, &objective.weights);
        let rates = normalization.rates();
        let input = Normalized::new(examples, &normalization.mean, &rates);
        let classes = examples.classes().len();
        let mut random = Random::new(options.seed);
        let decay = options.weight_decay;
        let (learner, rate) = match kind {
            HeadKind::Mean => (Learner::Mean(Nearest::new(input, &pictures)), 0.0),
            HeadKind::Linear => {
                let layer = Linear::new(input);
                let weights = classes * examples.dim();
                let learner = Learner::Linear {
                    gradients: vec![0.0; layer.parameters.len()],
                    adam: [AdamW::new(weights, decay), AdamW::new(classes, 0.0)],
                    layer,
                };
                (learner, 5e-3)
            }
            HeadKind::Attention | HeadKind::Auto => {
                let (dim, heads) = (examples.dim(), examples.num_heads());
                let probe = Attention::new(dim, heads, classes, &mut random);
                let adam = [
                    AdamW::new(dim, 0.0),
                    AdamW::new(dim * dim, decay),
                    AdamW::new(dim * dim, decay),
                    AdamW::new(classes * dim, decay),
                ];
                let learner = Learner::Attention {
                    gradients: Box::new(probe.zeros()),
                    probe: Box::new(probe),
                    adam,
                };
                (learner, 1e-3)
            }
        };
        Self {
            learner,
            rates,
            normalization,
            objective,
            random,
            rate: options.rate.unwrap_or(rate),
            batch: Self::batch(kind, pictures.len()),
            epochs: Self::epochs(kind, pictures.len(), options),
            order: pictures,
            step: 0,
            losses: 0.0,
        }
    }

    const fn batch(kind: HeadKind, pictures: usize) -> usize {
        match kind {
            HeadKind::Attention | HeadKind::Auto => BATCH,
            HeadKind::Linear | HeadKind::Mean => pictures,
        }
    }

    fn epochs(kind: HeadKind, pictures: usize, options: &Options) -> usize {
        let [least, most] = EPOCHS;
        match (kind, options.epochs) {
            (HeadKind::Mean, _) => 1,
            (_, Some(epochs)) => epochs,
            (HeadKind::Linear, None) => LINEAR_EPOCHS,
            (HeadKind::Attention | HeadKind::Auto, None) => {
                (PASSES / pictures.max(1)).clamp(least, most)
            }
        }
    }

    fn steps_for(kind: HeadKind, pictures: usize, options: &Options) -> usize {
        let batches = pictures.div_ceil(Self::batch(kind, pictures).max(1));
        Self::epochs(kind, pictures, options).saturating_mul(batches)
    }

    fn batches(&self) -> usize {
        self.order.len().div_ceil(self.batch.max(1))
    }

    fn steps(&self) -> usize {
        self.epochs.saturating_mul(self.batches())
    }

    fn is_done(&self) -> bool {
        self.step >= self.steps()
    }

    /// One batch; the mean loss of the epoch if that ends with it.
    fn step(&mut self, examples: &Examples) -> Option<f32> {
        let batches = self.batches();
        let nth = self.step % batches;
        if nth == 0 {
            if batches > 1 {
                self.random.shuffle(&mut self.order);
            }
            self.losses = 0.0;
        }
        let rate = rate(self.rate, self.step, self.steps());
        let end = ((nth + 1) * self.batch).min(self.order.len());
        let pictures = &self.order[nth * self.batch..end];
        let input = Normalized::new(examples, &self.normalization.mean, &self.rates);
        let loss = match &mut self.learner {
            Learner::Attention {
                probe,
                gradients,
                adam: [cls_token, k, v, linear],
            } => {
                let random = &mut self.random;
                let view = |&picture: &usize| (picture, random.below(examples.views(picture)));
                let batch: Vec<_> = pictures.iter().map(view).collect();
                let loss = probe.gradients(input, &self.objective, &batch, gradients);
                cls_token.step(&mut probe.cls_token, &gradients.cls_token, rate);
                k.step(&mut probe.k, &gradients.k, rate);
                v.step(&mut probe.v, &gradients.v, rate);
                linear.step(&mut probe.linear, &gradients.linear, rate);
                loss
            }
            Learner::Linear {
                layer,
                gradients,
                adam: [weights, biases],
            } => {
                let labels = examples.labels();
                let loss = layer.gradients(labels, &self.objective, pictures, gradients);
                let split = layer.parameters.len() - examples.classes().len();
                let (w, b) = layer.parameters.split_at_mut(split);
                weights.step(w, &gradients[..split], rate);
                biases.step(b, &gradients[split..], rate);
                loss
            }
            Learner::Mean(nearest) => {
                let losses = pictures.iter().map(|&picture| {
                    let class = examples.labels()[picture];
                    self.objective.gradient(&mut nearest.logits(picture), class)
                });
                losses.sum::<f32>() / pictures.len() as f32
            }
        };
        self.losses += loss * pictures.len() as f32;
        self.step += 1;
        (nth + 1 == batches).then(|| self.losses / self.order.len() as f32)
    }

    fn logits(&self, examples: &Examples, pictures: &[usize]) -> Vec<Vec<f32>> {
        let input = Normalized::new(examples, &self.normalization.mean, &self.rates);
        match &self.learner {
            Learner::Attention { probe, .. } => probe.logits(input, pictures),
            Learner::Linear { layer, .. } => pictures.iter().map(|&p| layer.logits(p)).collect(),
            Learner::Mean(nearest) => pictures.iter().map(|&p| nearest.logits(p)).collect(),
        }
    }

    fn into_head(self, kind: HeadKind, num_heads: usize) -> Head {
        let (linear, biases) = match self.learner {
            Learner::Attention { probe, .. } => {
                return Head::of_attention(*probe, num_heads, self.normalization);
            }
            Learner::Linear { layer, .. } => layer.into_parts(),
            Learner::Mean(nearest) => nearest.into_parts(),
        };
        Head::of_linear(kind, num_heads, linear, &biases, self.normalization)
    }
}
