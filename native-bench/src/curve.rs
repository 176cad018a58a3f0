//! How a training went, as a picture.

use aim_web::probe::report::Point;

/// The sides of the picture and of what is drawn in it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 584.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 312.0;

/// An SVG of the losses and the held-out accuracy, epoch by epoch; for light and dark pages.
pub fn svg(points: &[Point]) -> String {
    let last = points.len().max(2) as f64;
    let x = |epoch: usize| LEFT + (RIGHT - LEFT) * (epoch as f64 - 1.0) / (last - 1.0);
    let losses = points
        .iter()
        .flat_map(|point| [Some(point.loss), point.held_out_loss]);
    let most = losses.flatten().fold(0.0_f64, f64::max).max(1e-9);
    // A number of tenths, halves or whole ones above the largest.
    let step = [0.1, 0.5, 1.0, 5.0, 10.0, 50.0];
    let step = step
        .into_iter()
        .find(|step| most / step <= 5.0)
        .unwrap_or(most / 4.0);
    let top = (most / step).ceil() * step;
    let y = |share: f64| BOTTOM - (BOTTOM - TOP) * share.clamp(0.0, 1.0);
    let line = |class: &str, values: &[(usize, f64)]| {
        let points: Vec<String> = values
            .iter()
            .map(|&(epoch, share)| format!("{:.1},{:.1}", x(epoch), y(share)))
            .collect();
        format!(
            "<polyline class=\"{class}\" points=\"{}\"/>\n",
            points.join(" ")
        )
    };
    let of = |value: fn(&Point) -> Option<f64>, scale: f64| -> Vec<(usize, f64)> {
        let values = points
            .iter()
            .filter_map(|point| Some((point.epoch, value(point)? / scale)));
        values.collect()
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Loss and held-out accuracy by epoch\">\n<style>\n\
         text{{font:12px system-ui,sans-serif;fill:#5a6662}}.grid{{stroke:#dfe3df}}polyline{{fill:none;stroke-width:2}}\n\
         .loss{{stroke:#b45309}}.held{{stroke:#b45309;stroke-dasharray:5 4}}.right{{stroke:#0f766e}}\n\
         @media(prefers-color-scheme:dark){{text{{fill:#9fada8}}.grid{{stroke:#2b3431}}.loss,.held{{stroke:#f59e0b}}\
         .right{{stroke:#2dd4bf}}}}\n</style>\n"
    );
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        svg += &format!(
            "<path class=\"grid\" d=\"M{LEFT} {0:.1}H{RIGHT}\"/><text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{3:.2}</text>\
             <text x=\"{4}\" y=\"{2:.1}\">{5:.0}%</text>\n",
            y(share),
            LEFT - 8.0,
            y(share) + 4.0,
            share * top,
            RIGHT + 8.0,
            100.0 * share,
        );
    }
    svg += &format!(
        "<text x=\"{LEFT}\" y=\"{0}\">1</text><text x=\"{RIGHT}\" y=\"{0}\" text-anchor=\"end\">epoch {1}</text>\n\
         <path class=\"loss\" d=\"M{LEFT} 20h18\" stroke-width=\"2\"/><text x=\"{2}\" y=\"24\">loss</text>\n",
        BOTTOM + 22.0,
        points.len(),
        LEFT + 24.0,
    );
    svg += &line("loss", &of(|point| Some(point.loss), top));
    let accuracy = of(|point| point.accuracy, 1.0);
    if !accuracy.is_empty() {
        svg += &format!(
            "<path class=\"held\" d=\"M{0} 20h18\" stroke-width=\"2\"/><text x=\"{1}\" y=\"24\">loss, held out</text>\n\
             <path class=\"right\" d=\"M{2} 20h18\" stroke-width=\"2\"/><text x=\"{3}\" y=\"24\">accuracy, held out</text>\n",
            LEFT + 80.0,
            LEFT + 104.0,
            LEFT + 220.0,
            LEFT + 244.0,
        );
        svg += &line("held", &of(|point| point.held_out_loss, top));
        svg += &line("right", &accuracy);
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_in_the_picture() {
        let point = |epoch, loss, accuracy| Point {
            epoch,
            loss,
            held_out_loss: Some(loss * 1.5),
            accuracy: Some(accuracy),
        };
        let drawn = svg(&[point(1, 2.3, 0.1), point(2, 0.4, 1.0)]);
        assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"));
        assert_eq!(drawn.matches("<polyline").count(), 3);
        let coordinates = drawn.split("points=\"").skip(1).flat_map(|rest| {
            let end = rest.find('"').unwrap();
            rest[..end]
                .split([' ', ','])
                .map(|n| n.parse::<f64>().unwrap())
                .collect::<Vec<_>>()
        });
        for (at, value) in coordinates.enumerate() {
            let most = if at % 2 == 0 { WIDTH } else { HEIGHT };
            assert!((0.0..=most).contains(&value), "{value}");
        }
        // Nothing was held out, and there is one epoch.
        let alone = Point {
            epoch: 1,
            loss: 0.0,
            held_out_loss: None,
            accuracy: None,
        };
        let drawn = svg(&[alone]);
        assert!(!drawn.contains("NaN") && drawn.matches("<polyline").count() == 1);
    }
}
