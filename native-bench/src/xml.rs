//! Texts in XML, which SVG is.

/// A text that is no markup, and has nothing in it that XML does not know.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn any_text_comes_back_but_for_what_xml_does_not_know() {
        let text = escaped("<a href=\"b\">&\u{1}\u{fffe}\n'é'</a>");
        let page = format!("<page title=\"{text}\">{text}</page>");
        let page = roxmltree::Document::parse(&page).unwrap();
        let root = page.root_element();
        let plain = "<a href=\"b\">&'é'</a>";
        assert_eq!(root.text(), Some(plain));
        assert_eq!(root.attribute("title"), Some(plain));
    }
}
