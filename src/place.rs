//! Where in the internet an address is: country and network.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A country code: two capital letters (ISO 3166-1 alpha-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

impl Country {
    /// Accepts two capital letters and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 2] = text.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Code;
        impl de::Visitor<'_> for Code {
            type Value = Country;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a country code of two capital letters")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Country, E> {
                Country::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Code)
    }
}

/// Where an address is, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Country>,
    /// The number of the autonomous system that announces the address: its provider's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
}

impl Place {
    /// Whether neither is known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.country {
            Some(country) => write!(f, "country {country}")?,
            None => f.write_str("no country")?,
        }
        match self.asn {
            Some(asn) => write!(f, ", network AS{asn}"),
            None => f.write_str(", no network"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_json() {
        let place = Place { country: Country::parse("DE"), asn: Some(64_496) };
        for (place, json) in [
            (place, r#"{"country":"DE","asn":64496}"#),
            (Place { asn: None, ..place }, r#"{"country":"DE"}"#),
            (Place::default(), "{}"),
        ] {
            assert_eq!(serde_json::to_string(&place).unwrap(), json);
            assert_eq!(serde_json::from_str::<Place>(json).unwrap(), place);
        }
        for wrong in ["de", "DEU", "D", "", "D1", "Ä"] {
            let json = format!(r#"{{"country":"{wrong}"}}"#);
            assert!(serde_json::from_str::<Place>(&json).is_err(), "{wrong}");
        }
    }
}
