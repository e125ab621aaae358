//! Which codes are too weak to be a PIN.

use secrecy::zeroize::Zeroizing;

use crate::identity::Username;

/// Most characters of a PIN.
pub const MAX_LENGTH: usize = 32;

/// What fingers and heads run along without thinking: alphabets, and the rows of keyboards. Backwards, too.
const ROWS: &[&[u8]] = &[
    b"01234567890",
    b"abcdefghijklmnopqrstuvwxyz",
    b"qwertyuiop",
    b"asdfghjkl",
    b"zxcvbnm",
    b"qwertzuiop",
    b"yxcvbnm",
    b"azertyuiop",
    b"qsdfghjklm",
    b"wxcvbn",
];

/// From so many characters per run on, a code is nothing but runs.
const RUN: usize = 3;

/// With fewer characters beside the player's name, a code is but the name.
const OWN: usize = 4;

/// Why a code is no PIN. Displays as the reason that its player is given, without a word of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Too few characters.
    #[error("it needs at least {min} letters and digits")]
    TooShort {
        /// The fewest.
        min: u8,
    },
    /// Too many characters.
    #[error("it may have at most {MAX_LENGTH} letters and digits")]
    TooLong,
    /// Something else than letters and digits.
    #[error("it may have only digits and letters from A to Z, and no spaces")]
    BadCharacter,
    /// Whoever tries ten codes tries this one.
    #[error(
        "it is easy to guess, as it only repeats characters or follows a row such as 123456, abc or qwerty"
    )]
    Trivial,
    /// It is the player's name, or hardly more.
    #[error("it is easy to guess, as it is hardly more than your name")]
    Name,
}

/// Checks a new code of the player of that name.
pub(super) fn check(code: &str, min: u8, name: Option<&Username>) -> Result<(), Weakness> {
    if !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Weakness::BadCharacter);
    }
    if code.len() < usize::from(min) {
        return Err(Weakness::TooShort { min });
    }
    if code.len() > MAX_LENGTH {
        return Err(Weakness::TooLong);
    }
    // No less secret than the code, so wiped like it.
    let code = Zeroizing::new(code.to_ascii_lowercase());
    if is_trivial(code.as_bytes()) {
        return Err(Weakness::Trivial);
    }
    if name.is_some_and(|name| is_name(&code, name)) {
        return Err(Weakness::Name);
    }
    Ok(())
}

/// In lower case. One or two characters again and again, or little more than runs: `777777`, `121212`, `123456`,
/// `fedcba`, `890123`, `abc123`, `112233`, `qwerty`.
fn is_trivial(code: &[u8]) -> bool {
    let alternates = code.iter().zip(code.iter().skip(2)).all(|(one, next)| one == next);
    let mut single = Zeroizing::new(code.to_vec());
    single.dedup();
    alternates || runs(code).min(runs(&single)) * RUN <= code.len()
}

/// The fewest runs that the code is made of, taking as much as possible each time. A character that belongs to no other is
/// a run of one.
fn runs(code: &[u8]) -> usize {
    let mut runs = 0;
    let mut rest = code;
    while !rest.is_empty() {
        let longest = ROWS.iter().map(|row| run_along(row, rest)).max().unwrap_or(1).max(same(rest)).max(1);
        rest = rest.get(longest..).unwrap_or_default();
        runs += 1;
    }
    runs
}

/// How many characters at the start are the same.
fn same(code: &[u8]) -> usize {
    let Some(first) = code.first() else { return 0 };
    code.iter().take_while(|byte| *byte == first).count()
}

/// How many characters at the start follow each other in the row, or in the row read backwards. Digits go round.
fn run_along(row: &[u8], code: &[u8]) -> usize {
    let is_next = |one: u8, next: u8| row.windows(2).any(|pair| pair == [one, next]);
    let run = |follows: &dyn Fn(u8, u8) -> bool| {
        let pairs = code.iter().zip(code.iter().skip(1));
        1 + pairs.take_while(|(one, next)| follows(**one, **next)).count()
    };
    run(&|one, next| is_next(one, next)).max(run(&|one, next| is_next(next, one)))
}

/// In lower case: whether it is the player's name, or that and hardly more.
fn is_name(code: &str, name: &Username) -> bool {
    let name = name.as_str().to_ascii_lowercase();
    code.contains(&name) && code.len() - name.len() < OWN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Username {
        Username::parse("Notch").unwrap()
    }

    #[test]
    fn form() {
        for (code, min, expected) in [
            ("", 6, Err(Weakness::TooShort { min: 6 })),
            ("k7Qz2", 6, Err(Weakness::TooShort { min: 6 })),
            ("k7Qz2m", 6, Ok(())),
            ("k7Qz", 4, Ok(())),
            ("k7Qz2mk7Qz2mk7Qz2mk7Qz2mk7Qz2mk8", 6, Ok(())),
            ("k7Qz2mk7Qz2mk7Qz2mk7Qz2mk7Qz2mk8x", 6, Err(Weakness::TooLong)),
            ("k7Qz 2m", 6, Err(Weakness::BadCharacter)),
            ("k7Qz-2m", 6, Err(Weakness::BadCharacter)),
            ("kä7Qz2m", 6, Err(Weakness::BadCharacter)),
            ("٣٣٣٤٥٦", 6, Err(Weakness::BadCharacter)),
        ] {
            assert_eq!(check(code, min, Some(&name())), expected, "{code:?}");
        }
    }

    #[test]
    fn trivial_in_any_case() {
        for code in [
            "777777",
            "aaaaaa",
            "AaAaAa",
            "AAAAaaaa",
            "123456",
            "1234567890",
            "234567",
            "987654",
            "0987654321",
            "890123",
            "321098",
            "abcdef",
            "ABCDEF",
            "aBcDeF",
            "fedcba",
            "uvwxyz",
            "123123",
            "abcabc",
            "abc123",
            "123abc",
            "111222",
            "112233",
            "AaBbCc",
            "123321",
            "12344321",
            "121212",
            "ababab",
            "qwerty",
            "QwErTy",
            "ytrewq",
            "asdfgh",
            "zxcvbn",
            "qwertz",
            "azerty",
            "123456a",
            "1234abcd",
            "qwerty123",
        ] {
            assert_eq!(check(code, 4, Some(&name())), Err(Weakness::Trivial), "{code}");
        }
        for code in ["notch1", "NOTCH", "1notch", "notch12", "notchy"] {
            assert_eq!(check(code, 4, Some(&name())), Err(Weakness::Name), "{code}");
        }
        for code in ["1111", "1234", "4321", "1122", "1212", "9012"] {
            assert_eq!(check(code, 4, None), Err(Weakness::Trivial), "{code}");
        }
    }

    #[test]
    fn not_trivial() {
        for code in [
            "482913",
            "190457",
            "2580",
            "1984",
            "ft63kw",
            "melon7",
            "Hunter2",
            "correcthorse",
            "notch4829",
            "314159",
            "124578",
            "135790",
            "x111y2",
            "Dinnerbone",
        ] {
            assert_eq!(check(code, 4, Some(&name())), Ok(()), "{code}");
        }
    }

    /// Else the rule would cost players more tries than it costs guessers.
    #[test]
    fn few_codes_are_trivial() {
        // A prime, so that no digit stays the same for long.
        let codes: Vec<u32> = (0..1_000_000).step_by(97).collect();
        let trivial = codes.iter().filter(|n| check(&format!("{n:06}"), 6, None).is_err()).count();
        assert!(trivial * 100 < codes.len() * 3, "{trivial} of {}", codes.len());
    }

    #[test]
    fn what_the_player_is_told_is_the_same_for_every_code() {
        for (weakness, text) in [
            (Weakness::TooShort { min: 6 }, "it needs at least 6 letters and digits"),
            (Weakness::TooLong, "it may have at most 32 letters and digits"),
        ] {
            assert_eq!(weakness.to_string(), text);
        }
    }
}
