//! `classify` with the model inside the program.

use std::path::Path;

use tempfile::tempdir;

use super::{aim_bench, json, refused, test_file};

/// Photographs of the test splits, filed by what they show.
fn photos() -> Vec<(String, std::path::PathBuf)> {
    let mut photos = Vec::new();
    for class in std::fs::read_dir(test_file("photos")).expect("the photographs are there") {
        let class = class.expect("the folder is readable").path();
        if !class.is_dir() {
            continue;
        }
        let label = class
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        for photo in std::fs::read_dir(&class).expect("the folder is readable") {
            photos.push((label.clone(), photo.expect("the folder is readable").path()));
        }
    }
    photos.sort();
    photos
}

#[test]
fn photographs_get_their_labels() {
    let photos = photos();
    assert!(photos.len() >= 20, "{} photographs", photos.len());
    let paths = photos.iter().map(|(_, path)| path);
    let results = json(aim_bench("classify").args(["--top-k", "3"]).args(paths));
    let results = results.as_array().expect("a list");
    assert_eq!(results.len(), photos.len());
    for (result, (label, path)) in results.iter().zip(&photos) {
        assert_eq!(result["image"].as_str(), path.to_str());
        let predictions = result["predictions"].as_array().expect("a list");
        assert_eq!(predictions.len(), 3);
        assert_eq!(
            predictions[0]["label"].as_str(),
            Some(label.as_str()),
            "{}",
            path.display()
        );
        let scores: Vec<f64> = predictions
            .iter()
            .filter_map(|p| p["score"].as_f64())
            .collect();
        assert!(scores.is_sorted_by(|a, b| a >= b) && scores.iter().sum::<f64>() <= 1.0 + 1e-6);
        assert!(predictions[0]["index"].is_u64());
    }
}

#[test]
fn text_shows_labels_and_percentages() {
    let (label, path) = photos().swap_remove(0);
    let output = aim_bench("classify")
        .arg(&path)
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let text = String::from_utf8(output).expect("UTF-8");
    let mut lines = text.lines();
    assert_eq!(lines.next(), path.to_str());
    let first = lines.next().expect("a prediction");
    assert!(first.contains('%') && first.ends_with(&label), "{first}");
    assert_eq!(lines.count(), 4, "five predictions by default");
}

#[test]
fn pictures_that_are_none_are_refused() {
    let work = tempdir().expect("a temporary folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = work.path().join(name);
        std::fs::write(&path, bytes).expect("the folder is writable");
        path
    };
    let folder = work.path().join("no pictures");
    std::fs::create_dir(&folder).expect("the folder is writable");
    for path in [
        write("empty.png", b""),
        write("page.jpg", b"<!DOCTYPE html><html></html>"),
        write("noise.webp", &[0x5A; 300]),
        Path::new("missing.png").to_owned(),
        folder,
    ] {
        let line = refused(aim_bench("classify").arg(&path));
        assert!(line.contains(&path.display().to_string()), "{line}");
    }
}
