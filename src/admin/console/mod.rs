//! The console page: one document, made of `page.html`, `page.css` and `page.js` as they stand in the source.
//!
//! ```text
//! page.html ─┐
//! page.css  ─┼─> Page::assemble ──> the document, and a policy that names the hashes of its one style and one script
//! page.js   ─┘
//! ```
//!
//! There is no build step, and the document asks nobody but this interface for anything. It holds no data: what it shows it
//! reads from `/api`, with the token where that is asked for. The policy lets the browser run and apply exactly these
//! bytes, so text that gets into the page by whatever mistake stays text.

use hyper::{
    StatusCode,
    body::Bytes,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use sha2::{Digest, Sha256};

use super::answer::{Answer, Content, RESOURCE_POLICY};

const HTML: &str = include_str!("page.html");
const CSS: &str = include_str!("page.css");
const JS: &str = include_str!("page.js");

/// Where the style goes: the whole content of its element.
const STYLE_HERE: &str = "/* page.css */";
/// Where the script goes: the whole content of its element.
const SCRIPT_HERE: &str = "/* page.js */";

/// The page, ready to be sent. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Page {
    document: Bytes,
    policy: HeaderValue,
}

impl Page {
    /// Puts the page together. Takes a hash over all of it, so it is made once, not with each answer.
    pub(super) fn assemble() -> Self {
        let (style, script) = (lines(CSS), lines(JS));
        let document = lines(HTML).replacen(STYLE_HERE, &style, 1).replacen(SCRIPT_HERE, &script, 1);
        // What would make markup of a text is refused in the page itself too ("trusted types"): it has no use for it.
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            source(&script),
            source(&style)
        );
        // It is plain ASCII. A page that may do nothing at all would be what is left.
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { document: document.into(), policy }
    }

    /// The answer to whoever asks for it: nobody needs the token for that.
    pub(super) fn answer(&self) -> Answer {
        let mut answer = Answer::new(Content::Whole(Some(self.document.clone())));
        *answer.status_mut() = StatusCode::OK;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}

/// What goes with the page besides its policy.
const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    // The next release has another page at this address.
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    // For browsers that do not know `frame-ancestors`.
    (X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (RESOURCE_POLICY, "same-origin"),
];

/// With the line ends that a browser makes of all others before it takes the hash: a checkout on Windows may have others.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// What a policy calls an inline style or script of this content.
fn source(content: &str) -> String {
    let mut name = String::from("sha256-");
    base64(&Sha256::digest(content), &mut name);
    name
}

/// Appends the base64 of `bytes`, padded.
fn base64(bytes: &[u8], to: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let byte = |index: usize| u32::from(three.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            let letter = DIGITS.get(value as usize).filter(|_| digit <= three.len());
            to.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands between `start` and `end`, which occur once each.
    fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
        let one = |part: &str| assert_eq!(text.matches(part).count(), 1, "{part}");
        one(start);
        one(end);
        text.split_once(start).unwrap().1.split_once(end).unwrap().0
    }

    fn document() -> (String, String) {
        let answer = Page::assemble().answer();
        let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        let Content::Whole(Some(bytes)) = answer.into_body() else { panic!("in parts") };
        (String::from_utf8(bytes.to_vec()).unwrap(), policy)
    }

    #[test]
    fn the_policy_names_what_the_document_holds() {
        let (document, policy) = document();
        let style = between(&document, "<style>", "</style>");
        let script = between(&document, "<script type=\"module\">", "</script>");
        assert_eq!((style, script), (CSS, JS));
        for (kind, content) in [("style-src", style), ("script-src", script)] {
            assert!(policy.contains(&format!("{kind} '{}';", source(content))), "{policy}");
        }
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn the_document_asks_for_nothing_outside() {
        let (document, _) = document();
        assert!(document.starts_with("<!doctype html>"));
        // An attribute or a rule that would load something, and ways to make markup or code of a text.
        for way in [
            " src=",
            "url(",
            "@import",
            "import(",
            "<link rel=\"stylesheet",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            " style=\"",
            " onclick=",
            "javascript:",
        ] {
            assert!(!document.contains(way), "{way}");
        }
        // The one address in it names the kind of a drawing, and is not asked for.
        let addresses: Vec<_> =
            document.match_indices("://").map(|(at, _)| &document[at + 3..][..18]).collect();
        assert!(addresses.iter().all(|address| *address == "www.w3.org/2000/sv"), "{addresses:?}");
        assert!(document.len() < 96 << 10, "{} bytes", document.len());
    }

    #[test]
    fn hashes_are_written_as_browsers_write_them() {
        let encoded = |bytes: &[u8]| {
            let mut text = String::new();
            base64(bytes, &mut text);
            text
        };
        // RFC 4648, section 10.
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encoded(plain.as_bytes()), text);
        }
        assert_eq!(encoded(&[0xfb, 0xff, 0xbf]), "+/+/");
        // The example of the CSP specification.
        let said = "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=";
        assert_eq!(source("alert('Hello, world.');"), said);
    }

    #[test]
    fn line_ends_are_those_that_are_hashed() {
        assert_eq!(lines("a\r\nb\n"), "a\nb\n");
    }
}
