//! What a web provider answers, checked.

use std::net::IpAddr;

use serde_json::Value;

use crate::{
    foreign,
    place::{Country, Place},
};

/// How much is shown of what a provider says, in characters.
const MAX_SAID: usize = 120;

/// Why a web provider's answer tells nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// Not a JSON object.
    #[error("the answer is not a JSON object")]
    NotJson,
    /// The provider says that it cannot or will not. Its words, cleaned and cut.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// The answer is about another address.
    #[error("the answer is about another address")]
    OtherAddress,
    /// Neither a country code nor an ASN in any known shape.
    #[error("the answer holds neither a country code nor an ASN in a known shape")]
    Nothing,
}

/// Reads a web provider's answer in the shapes of ipwho.is, ip-api.com and ipinfo.io, told apart by their fields.
///
/// # Errors
/// See [`NoPlace`]. A country or ASN that is not well formed counts as missing.
pub(super) fn read(body: &[u8], asked: IpAddr) -> Result<Place, NoPlace> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| NoPlace::NotJson)?;
    let fields = answer.as_object().ok_or(NoPlace::NotJson)?;
    // ipwho.is: success false; ip-api.com: status "fail"; ipinfo.io: an object under error.
    let failed = fields.get("success") == Some(&Value::Bool(false))
        || fields.get("status").is_some_and(|status| status == "fail")
        || fields.get("error").is_some_and(|error| !error.is_null() && *error != Value::Bool(false));
    if failed {
        let said = ["/message", "/error/message", "/error/title"];
        let said = said.iter().find_map(|path| answer.pointer(path)?.as_str());
        return Err(NoPlace::Refused(foreign::clean_to(said.unwrap_or("it does not say why"), MAX_SAID)));
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let echoed = text("ip").or_else(|| text("query"));
    if echoed.is_some_and(|echoed| echoed.parse() != Ok(asked)) {
        return Err(NoPlace::OtherAddress);
    }
    let country = ["country_code", "countryCode", "country"].iter().find_map(|name| text(name));
    let asn = answer
        .pointer("/connection/asn")
        .or_else(|| fields.get("asn"))
        .or_else(|| fields.get("as"))
        .or_else(|| fields.get("org"));
    let place = Place { country: country.and_then(Country::parse), asn: asn.and_then(asn_of) };
    if place == Place::default() { Err(NoPlace::Nothing) } else { Ok(place) }
}

/// A number, or text that begins with one after "AS": `13335`, `"AS13335 Cloudflare, Inc."`.
fn asn_of(value: &Value) -> Option<u32> {
    let number = match value {
        Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok())?,
        Value::String(text) => text.strip_prefix("AS")?.split(' ').next()?.parse().ok()?,
        _ => return None,
    };
    // 0 is reserved: providers write it for "none".
    (number != 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<String, NoPlace> {
        super::read(body.as_bytes(), "203.0.113.5".parse().unwrap()).map(|place| place.to_string())
    }

    #[test]
    fn the_common_shapes() {
        for (body, expected) in [
            (
                r#"{"ip":"203.0.113.5","success":true,"country_code":"US","connection":{"asn":64496,"org":"Example"}}"#,
                "country US, network AS64496",
            ),
            (
                r#"{"status":"success","countryCode":"DE","as":"AS64496 Example, Inc.","query":"203.0.113.5"}"#,
                "country DE, network AS64496",
            ),
            (
                r#"{"ip":"203.0.113.5","country":"FR","org":"AS4294967295 Example"}"#,
                "country FR, network AS4294967295",
            ),
            (
                r#"{"ip":"203.0.113.5","asn":"AS64496","country_code":"NL","country":"Netherlands"}"#,
                "country NL, network AS64496",
            ),
            (r#"{"error":false,"country_code":"US","connection":{}}"#, "country US, no network"),
            (r#"{"country_code":"us","connection":{"asn":64496}}"#, "no country, network AS64496"),
            (r#"{"country_code":"USA","asn":64496}"#, "no country, network AS64496"),
        ] {
            assert_eq!(read(body).as_deref(), Ok(expected), "{body}");
        }
    }

    #[test]
    fn answers_that_tell_nothing() {
        for (body, expected) in [
            ("", NoPlace::NotJson),
            ("<html>", NoPlace::NotJson),
            ("[1]", NoPlace::NotJson),
            ("{}", NoPlace::Nothing),
            (r#"{"country_code":"","connection":{"asn":0}}"#, NoPlace::Nothing),
            (r#"{"country_code":"..","connection":{"asn":4294967296}}"#, NoPlace::Nothing),
            (r#"{"org":"Example AS64496"}"#, NoPlace::Nothing),
            (r#"{"ip":"203.0.113.6","country_code":"US"}"#, NoPlace::OtherAddress),
            (r#"{"query":"nonsense","countryCode":"US"}"#, NoPlace::OtherAddress),
            (r#"{"success":false,"message":"Reserved range"}"#, NoPlace::Refused("Reserved range".into())),
            (r#"{"status":"fail","message":"quota"}"#, NoPlace::Refused("quota".into())),
            (r#"{"status":"fail","message":"a\nb"}"#, NoPlace::Refused("a\u{fffd}b".into())),
            (r#"{"error":{"title":"Rate limit"}}"#, NoPlace::Refused("Rate limit".into())),
        ] {
            assert_eq!(read(body), Err(expected), "{body}");
        }
    }
}
