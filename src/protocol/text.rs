//! Texts for players: `&` colour codes in, components out, as JSON or as network NBT.

use serde_json::{Map, Value};

use super::{
    nbt,
    version::{Dialect, TextForm},
    writer::Writer,
};

/// A text as a list of runs, each in one style.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Text {
    runs: Vec<Run>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Run {
    text: String,
    style: Style,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Style {
    color: Option<(char, &'static str)>,
    bold: bool,
    italic: bool,
    underlined: bool,
    strikethrough: bool,
    obfuscated: bool,
}

impl Style {
    fn flags(&self) -> [(char, &'static str, bool); 5] {
        [
            ('l', "bold", self.bold),
            ('o', "italic", self.italic),
            ('n', "underlined", self.underlined),
            ('m', "strikethrough", self.strikethrough),
            ('k', "obfuscated", self.obfuscated),
        ]
    }

    /// The style after a code, or `None` if there is no such code. A colour resets the rest, as in the game.
    fn after(self, code: char) -> Option<Self> {
        let code = code.to_ascii_lowercase();
        if let Some(color) = COLORS.iter().find(|(c, _)| *c == code) {
            return Some(Self { color: Some(*color), ..Self::default() });
        }
        Some(match code {
            'l' => Self { bold: true, ..self },
            'o' => Self { italic: true, ..self },
            'n' => Self { underlined: true, ..self },
            'm' => Self { strikethrough: true, ..self },
            'k' => Self { obfuscated: true, ..self },
            'r' => Self::default(),
            _ => return None,
        })
    }
}

const COLORS: [(char, &str); 16] = [
    ('0', "black"),
    ('1', "dark_blue"),
    ('2', "dark_green"),
    ('3', "dark_aqua"),
    ('4', "dark_red"),
    ('5', "dark_purple"),
    ('6', "gold"),
    ('7', "gray"),
    ('8', "dark_gray"),
    ('9', "blue"),
    ('a', "green"),
    ('b', "aqua"),
    ('c', "red"),
    ('d', "light_purple"),
    ('e', "yellow"),
    ('f', "white"),
];

impl Text {
    /// Reads a template: `&` or `§` and a code start a style, `%key%` is replaced by its value. Values are foreign:
    /// codes in them stay plain characters. An `&` without a known code stays as it is.
    pub fn parse(template: &str, values: &[(&str, &str)]) -> Self {
        let mut runs = vec![Run::default()];
        let mut chars = template.chars().peekable();
        while let Some(c) = chars.next() {
            let style = runs.last().map(|run| run.style).unwrap_or_default();
            let next =
                if matches!(c, '&' | '§') { chars.peek().and_then(|n| style.after(*n)) } else { None };
            match next {
                Some(style) => {
                    chars.next();
                    runs.push(Run { text: String::new(), style });
                }
                None => {
                    if let Some(run) = runs.last_mut() {
                        run.text.push(c);
                    }
                }
            }
        }
        for run in &mut runs {
            for (key, value) in values {
                let key = format!("%{key}%");
                if run.text.contains(&key) {
                    run.text = run.text.replace(&key, &value.replace('§', "?"));
                }
            }
        }
        runs.retain(|run| !run.text.is_empty());
        Self { runs }
    }

    /// A text without styles.
    pub fn plain(text: &str) -> Self {
        let run = Run { text: text.to_owned(), style: Style::default() };
        Self { runs: if text.is_empty() { Vec::new() } else { vec![run] } }
    }

    /// The text followed by another.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.runs.extend(other.runs);
        self
    }

    /// The characters alone.
    pub fn to_plain(&self) -> String {
        self.runs.iter().map(|run| run.text.as_str()).collect()
    }

    /// The text with `§` codes, as legacy pings have it: no more of them than the change from run to run takes.
    pub fn to_section_codes(&self) -> String {
        let mut out = String::new();
        let mut before = Style::default();
        for run in &self.runs {
            let is_ending = |was: Style| {
                let ends = |((_, _, was), (_, _, is)): (&(_, _, bool), &(_, _, bool))| *was && !*is;
                was.flags().iter().zip(&run.style.flags()).any(ends)
            };
            if run.style.color != before.color || is_ending(before) {
                // A colour, or the reset to none, ends every style before it.
                out.extend(['§', run.style.color.map_or('r', |(code, _)| code)]);
                before = Style { color: run.style.color, ..Style::default() };
            }
            for ((code, _, is), (_, _, was)) in run.style.flags().iter().zip(before.flags()) {
                if *is && !was {
                    out.extend(['§', *code]);
                }
            }
            out.push_str(&run.text);
            before = run.style;
        }
        out
    }

    /// The text as a JSON component.
    pub fn to_json(&self) -> Value {
        let component = |run: &Run| {
            let mut map = Map::new();
            map.insert("text".into(), run.text.clone().into());
            if let Some((_, color)) = run.style.color {
                map.insert("color".into(), color.into());
            }
            for (_, name, _) in run.style.flags().iter().filter(|(_, _, on)| *on) {
                map.insert((*name).into(), true.into());
            }
            Value::Object(map)
        };
        match self.runs.as_slice() {
            [] => serde_json::json!({ "text": "" }),
            [run] => component(run),
            runs => {
                serde_json::json!({ "text": "", "extra": runs.iter().map(component).collect::<Vec<_>>() })
            }
        }
    }

    /// The text as network NBT: a compound without a root name.
    pub fn to_nbt(&self) -> Vec<u8> {
        let mut out = vec![nbt::COMPOUND];
        match self.runs.as_slice() {
            [run] => run.put_nbt(&mut out),
            runs => {
                Run::default().put_nbt_fields(&mut out);
                if !runs.is_empty() {
                    nbt::put_compounds(&mut out, "extra", runs.len());
                    for run in runs {
                        run.put_nbt(&mut out);
                    }
                }
                out.push(nbt::END);
            }
        }
        out
    }

    /// Writes the text as configuration and play packets of this dialect have it.
    pub fn write(&self, dialect: &Dialect, writer: &mut Writer) {
        match dialect.text {
            TextForm::Json => writer.string(&self.to_json().to_string()),
            TextForm::Nbt => writer.raw(&self.to_nbt()),
        };
    }
}

impl Run {
    fn put_nbt_fields(&self, out: &mut Vec<u8>) {
        nbt::put_string(out, "text", &self.text);
        if let Some((_, color)) = self.style.color {
            nbt::put_string(out, "color", color);
        }
        for (_, name, _) in self.style.flags().iter().filter(|(_, _, on)| *on) {
            nbt::put_bool(out, name, true);
        }
    }

    fn put_nbt(&self, out: &mut Vec<u8>) {
        self.put_nbt_fields(out);
        out.push(nbt::END);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn colour_codes() {
        assert_eq!(Text::parse("&cNo.", &[]).to_json(), json!({"text":"No.","color":"red"}));
        assert_eq!(Text::parse("plain & simple &z", &[]).to_json(), json!({"text":"plain & simple &z"}));
        assert_eq!(Text::parse("", &[]).to_json(), json!({"text":""}));
        assert_eq!(
            Text::parse("&eUse &6&l/pin &ewithin %timeout%s", &[("timeout", "60")]).to_json(),
            json!({"text":"","extra":[
                {"text":"Use ","color":"yellow"},
                {"text":"/pin ","color":"gold","bold":true},
                {"text":"within 60s","color":"yellow"},
            ]})
        );
    }

    #[test]
    fn section_codes_are_as_few_as_will_do() {
        for (template, expected) in [
            ("plain", "plain"),
            ("§aup&rno", "§aup§rno"),
            ("&cA &lB&r C", "§cA §lB§r C"),
            ("&cA&cB", "§cAB"),
            ("&cA&lB&cC", "§cA§lB§cC"),
            ("&lA&oB&rC&oD", "§lA§oB§rC§oD"),
            ("&lA&cB", "§lA§cB"),
        ] {
            assert_eq!(Text::parse(template, &[]).to_section_codes(), expected, "{template}");
        }
    }

    #[test]
    fn values_are_foreign() {
        let text = Text::parse("&aHello %player%", &[("player", "&4§4x")]);
        assert_eq!(text.to_json(), json!({"text":"Hello &4?4x","color":"green"}));
    }

    #[test]
    fn nbt_is_pinned() {
        // Written out by hand from the NBT format: compound, two strings, end.
        assert_eq!(
            Text::parse("&cNo", &[]).to_nbt(),
            b"\x0a\x08\x00\x04text\x00\x02No\x08\x00\x05color\x00\x03red\x00"
        );
        // Java's modified UTF-8 for U+1F600 is its two surrogates.
        assert_eq!(Text::plain("😀").to_nbt(), b"\x0a\x08\x00\x04text\x00\x06\xed\xa0\xbd\xed\xb8\x80\x00");
        assert_eq!(
            Text::parse("a&lb", &[]).to_nbt(),
            b"\x0a\x08\x00\x04text\x00\x00\x09\x00\x05extra\x0a\x00\x00\x00\x02\
              \x08\x00\x04text\x00\x01a\x00\
              \x08\x00\x04text\x00\x01b\x01\x00\x04bold\x01\x00\x00"
        );
    }
}
