//! What training gives, and what it refuses.

use aim_web::ErrorKind;
use aim_web::probe::training::HeldOut;
use aim_web::probe::{Examples, HeadKind, Options, Training};

use super::cases::{self, config, examples, features, train};

const HEADS: [HeadKind; 3] = [HeadKind::Mean, HeadKind::Linear, HeadKind::Attention];

#[test]
fn training_is_the_same_everywhere() {
    cases::training_is_the_same_everywhere();
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let examples = examples(&[8, 8], 0.5);
    for head in [HeadKind::Linear, HeadKind::Attention] {
        let (first, report) = train(&examples, head, 1);
        assert!(
            (first.clone(), report) == train(&examples, head, 1),
            "{head}"
        );
        // Logistic regression takes all pictures at once, and begins at 0.
        if head == HeadKind::Attention {
            assert!(first != train(&examples, head, 2).0, "{head}");
        }
    }
}

#[cfg(feature = "threads")]
#[test]
fn threads_change_no_number() {
    let examples = examples(&[40, 30, 30], 0.5);
    for head in HEADS {
        let [one, several] = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            pool.install(|| train(&examples, head, 0))
        });
        assert!(one == several, "{head}");
    }
}

#[test]
fn each_head_learns_what_it_can() {
    // In the mean of six tokens the one that counts is small, and attention finds it.
    let examples = examples(&[60, 60, 60], 0.5);
    let accuracy = HEADS.map(|head| {
        let (trained, report) = train(&examples, head, 0);
        assert_eq!(report.head, head);
        assert_eq!((report.examples, report.held_out), (180, 36), "{head}");
        assert_eq!((trained.num_classes(), trained.dim()), (3, 48));
        let right: usize = report.per_class.iter().map(|class| class.right).sum();
        assert_eq!(report.accuracy, Some(right as f64 / 36.0));
        for (class, row) in report.per_class.iter().zip(report.confusion.rows()) {
            assert_eq!((class.examples, class.held_out), (60, 12), "{head}");
            assert_eq!(row.iter().sum::<usize>(), 12);
        }
        report.accuracy.unwrap()
    });
    let [mean, linear, attention] = accuracy;
    assert!(
        mean > 0.5 && linear > 0.5 && attention > 0.8,
        "{accuracy:?}"
    );
    assert!(attention >= linear.max(mean), "{accuracy:?}");
}

#[test]
fn classes_of_few_pictures_count_like_those_of_many() {
    let examples = examples(&[10, 120], 0.35);
    for head in HEADS {
        let (_, report) = train(&examples, head, 0);
        let few = &report.per_class[0];
        assert!(
            few.accuracy.unwrap() >= 0.5,
            "{head}: {:?}",
            report.confusion
        );
        assert!(
            report.per_class[1].accuracy.unwrap() > 0.7,
            "{head}: {:?}",
            report.confusion
        );
    }
}

#[test]
fn two_pictures_a_class_are_enough() {
    let examples = examples(&[2, 2], 0.01);
    for head in [
        HeadKind::Auto,
        HeadKind::Mean,
        HeadKind::Linear,
        HeadKind::Attention,
    ] {
        let (trained, report) = train(&examples, head, 0);
        assert_eq!(report.held_out, 2, "{head}");
        assert!(trained.linear.iter().all(|value| value.is_finite()));
        assert_ne!(trained.kind, HeadKind::Auto);
    }
}

#[test]
fn pictures_that_are_all_alike_train_to_numbers() {
    let mut examples = Examples::new(&config(), &["a".to_owned(), "b".to_owned()]).unwrap();
    for picture in 0..6 {
        examples.push(picture % 2, &vec![1.5; 6 * 48]).unwrap();
    }
    for head in HEADS {
        let (trained, _) = train(&examples, head, 0);
        let all = [
            &trained.running_mean,
            &trained.linear,
            &trained.v,
            &trained.k,
        ];
        assert!(
            all.iter()
                .all(|list| list.iter().all(|value| value.is_finite())),
            "{head}"
        );
    }
}

#[test]
fn what_is_held_out_by_number_is_never_learnt() {
    // Held-out pictures whose labels are wrong: a head that had seen them would know.
    let mut examples = Examples::new(&config(), &["a".to_owned(), "b".to_owned()]).unwrap();
    for picture in 0..40 {
        let class = picture % 2;
        let shown = if picture < 30 { class } else { 1 - class };
        examples
            .push(class, &features(shown, picture, 0.1))
            .unwrap();
    }
    for head in HEADS {
        let options = Options {
            head,
            held_out: HeldOut::From(30),
            ..Options::default()
        };
        let (_, report) = Training::new(&examples, options).unwrap().finish().unwrap();
        assert_eq!(report.held_out, 10);
        assert!(
            report.accuracy.unwrap() < 0.3,
            "{head}: {:?}",
            report.confusion
        );
    }
}

#[test]
fn a_head_is_chosen_by_what_it_is_trained_on() {
    // Three pictures of each class to learn from, a hundred to be tested on.
    let mut examples = Examples::new(&config(), &["a".to_owned(), "b".to_owned()]).unwrap();
    for picture in 0..206 {
        let class = picture % 2;
        examples
            .push(class, &features(class, picture, 0.1))
            .unwrap();
    }
    let kind = |held_out| {
        let options = Options {
            held_out,
            ..Options::default()
        };
        Training::new(&examples, options).unwrap().kind()
    };
    assert_eq!(kind(HeldOut::From(6)), HeadKind::Mean);
    assert_eq!(kind(HeldOut::Share(0.9)), HeadKind::Attention);
}

#[test]
fn steps_tell_how_far_they_are() {
    let examples = examples(&[40, 40], 0.5);
    let mut training = Training::new(
        &examples,
        Options {
            head: HeadKind::Attention,
            epochs: Some(5),
            ..Options::default()
        },
    )
    .unwrap();
    let (mut last, mut epochs) = (0.0, Vec::new());
    while let Some(progress) = training.step().unwrap() {
        assert!(progress.done > last && progress.done <= 1.0);
        last = progress.done;
        epochs.extend(progress.epoch.map(|point| point.epoch));
    }
    assert_eq!((last, epochs), (1.0, vec![1, 2, 3, 4, 5]));
    let (_, report) = training.finish().unwrap();
    assert_eq!(report.curve.len(), 5);
    assert!(report.curve[4].loss < report.curve[0].loss);
}

#[test]
fn what_makes_no_lesson_is_refused() {
    let names =
        |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
    for (classes, says) in [
        (names(&[]), "no classes"),
        (names(&["a"]), "one class"),
        (names(&["thumb up", "b", "Thumb Up "]), "alike"),
        (names(&["a", "  "]), "needs a name"),
    ] {
        let error = Examples::new(&config(), &classes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    for (counts, says) in [
        (vec![5, 0], "\"class 1\" has no picture"),
        (vec![1, 5], "\"class 0\" has one picture"),
    ] {
        let examples = examples(&counts, 0.1);
        let error = Training::new(&examples, Options::default()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Option);
        assert!(error.to_string().contains(says), "{error}");
    }

    let mut few = examples(&[2, 2], 0.1);
    for wrong in [vec![0.0; 5], vec![f32::NAN; 6 * 48], vec![1e6; 6 * 48]] {
        few.push(0, &wrong).unwrap_err();
    }
    few.push(2, &vec![0.0; 6 * 48]).unwrap_err();
    // Nothing of it was lost or taken.
    assert_eq!(few.counts(), [2, 2]);

    let default = Options::default;
    for options in [
        Options {
            epochs: Some(0),
            ..default()
        },
        Options {
            rate: Some(0.0),
            ..default()
        },
        Options {
            rate: Some(f32::NAN),
            ..default()
        },
        Options {
            held_out: HeldOut::Share(1.0),
            ..default()
        },
        Options {
            held_out: HeldOut::Share(-0.1),
            ..default()
        },
        Options {
            weight_decay: f32::NAN,
            ..default()
        },
        Options {
            smoothing: 1.0,
            ..default()
        },
        Options {
            held_out: HeldOut::From(0),
            ..default()
        },
    ] {
        let error = Training::new(&few, options.clone()).err();
        assert_eq!(
            error.map(|error| error.kind()),
            Some(ErrorKind::Option),
            "{options:?}"
        );
    }
}
