//! What differs between protocol versions: one table of changes, oldest first, that turns a protocol number into a
//! [`Dialect`] of plain answers. Nothing else in the program compares protocol numbers.

use std::fmt;

use super::ids::{PacketId, PacketIds};

/// A protocol number as the handshake states it. It cannot be ordered: ask its [`Dialect`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProtocolVersion(pub i32);

impl ProtocolVersion {
    /// What tools say that ask for the server list answer and speak no release: servers answer with their own
    /// version, also those that translate for others.
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtocolVersion({})", self.0)
    }
}

/// Fields of login start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginStartForm {
    /// The name alone.
    Name,
    /// Name, maybe a profile key.
    NameKey,
    /// Name, maybe a profile key, maybe an id.
    NameKeyId,
    /// Name, maybe an id.
    NameMaybeId,
    /// Name and id.
    NameId,
}

/// What Mojang's signature on the profile key in login start covers besides the key and its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyBinding {
    /// Nothing: the key could be anybody's.
    Nobody,
    /// The player's id.
    Player,
}

/// How byte arrays of the encryption packets state their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayLength {
    /// 16 bits.
    Short,
    /// A VarInt.
    VarInt,
}

/// How login success spells the player's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdForm {
    /// Text without dashes.
    Plain,
    /// Text with dashes.
    Dashed,
    /// 16 bytes.
    Binary,
}

/// What follows id and name in login success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuccessTail {
    /// Nothing.
    None,
    /// Properties.
    Properties,
    /// Properties, and whether the client is strict about errors.
    PropertiesStrict,
    /// Properties, and an id of the server's run.
    PropertiesSession,
}

/// How text components are written in configuration and play. In the login state they are JSON in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextForm {
    /// A JSON string.
    Json,
    /// Network NBT.
    Nbt,
}

/// Fields of a chat line from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatForm {
    /// `chat_message`: the text alone.
    Bare,
    /// `chat_message`: text, position byte.
    Position,
    /// `chat_message`: text, position byte, sender id.
    PositionSender,
    /// `system_chat`: text, chat type.
    Type,
    /// `system_chat`: text, whether it goes above the hotbar.
    Overlay,
}

/// What stands behind the text of a chat line or a command that a client signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpeechForm {
    /// Nothing.
    Bare,
    /// Time, salt, signature, whether it signs a preview. Each line is signed for itself.
    Alone,
    /// The same and, since lines are signed in a chain, which lines of others were seen last.
    LastSeen,
    /// Time, salt, signature, how many lines of others were seen since the last report, and which of the last 20.
    Counted,
    /// The same, and a checksum.
    CountedChecksum,
}

/// Fields of a client's request for suggestions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuggestionForm {
    /// The text first.
    Text,
    /// A number, then the text.
    Numbered,
}

/// How the line above the hotbar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionBarForm {
    /// There is none.
    Absent,
    /// A chat line at position 2. The client shows its characters alone, with `§` codes.
    ChatPosition,
    /// Action 2 of the title packet.
    Title,
    /// A packet of its own.
    Own,
}

/// How a command tree names the parser of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParserForm {
    /// By its name.
    Name,
    /// By its number.
    Number,
}

/// Chat of other players: how it is shown, and what else it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayerChatForm {
    /// There is no disguised chat.
    Other,
    /// The number of a chat type.
    TypeNumber,
    /// The number of a chat type counted from 1, or 0 and the type itself.
    TypeHolder,
    /// The same, and all lines are counted at the start of the packet.
    Numbered,
    /// The same, and what is hidden of a line stands in bytes instead of words.
    NumberedBytes,
}

/// The newest version of modern forwarding that client and backend can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModernForwarding {
    /// There is no login plugin request to carry it.
    Absent,
    /// Version 1 only.
    Default,
    /// Version 2, if the player's profile key was proven, else 1.
    WithKey,
    /// Version 3, if the player's profile key was proven, else 1.
    WithKeyV2,
    /// Version 4, if the backend asks for it, else 1.
    LazySession,
}

/// Plain answers about one protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    version: ProtocolVersion,
    release: i32,
    /// Length of byte arrays in encryption request and response, and of plugin messages.
    pub array_length: ArrayLength,
    /// Whether there is compression.
    pub compression: bool,
    /// Fields of login start.
    pub login_start: LoginStartForm,
    /// Whether encryption request says if the client is to call the session server.
    pub authenticate_flag: bool,
    /// Whether encryption response may sign the verify token with a profile key instead.
    pub signed_verify_token: bool,
    /// The player's id in login success.
    pub success_id: IdForm,
    /// What follows in login success.
    pub success_tail: SuccessTail,
    /// Whether backends can ask the client in the login state by plugin requests.
    pub login_plugin: bool,
    /// Whether backends can ask for cookies in the login state, and servers transfer clients.
    pub cookies: bool,
    /// Whether login acknowledged and the configuration state exist.
    pub configuration: bool,
    /// Text components in configuration and play.
    pub text: TextForm,
    /// Chat lines from the server.
    pub chat: ChatForm,
    /// Modern forwarding.
    pub modern_forwarding: ModernForwarding,
    /// Whether the client can show dialogs.
    pub dialogs: bool,
    /// Chat lines and commands from the client.
    pub speech: SpeechForm,
    /// Whether commands without signed arguments have a packet with nothing but their text.
    pub bare_commands: bool,
    /// Requests for suggestions.
    pub suggestions: SuggestionForm,
    /// The line above the hotbar.
    pub action_bar: ActionBarForm,
    /// Arguments in command trees.
    pub parsers: ParserForm,
    /// Chat of other players.
    pub player_chat: PlayerChatForm,
    /// Whether each line of a player builds on its last one, and a line that is not shown needs a header in its place.
    pub chat_headers: bool,
}

/// The oldest release served: 1.7.2.
const OLDEST: Dialect = Dialect {
    version: ProtocolVersion(4),
    release: 4,
    array_length: ArrayLength::Short,
    compression: false,
    login_start: LoginStartForm::Name,
    authenticate_flag: false,
    signed_verify_token: false,
    success_id: IdForm::Plain,
    success_tail: SuccessTail::None,
    login_plugin: false,
    cookies: false,
    configuration: false,
    text: TextForm::Json,
    chat: ChatForm::Bare,
    modern_forwarding: ModernForwarding::Absent,
    dialogs: false,
    speech: SpeechForm::Bare,
    bare_commands: false,
    suggestions: SuggestionForm::Text,
    action_bar: ActionBarForm::Absent,
    parsers: ParserForm::Name,
    player_chat: PlayerChatForm::Other,
    chat_headers: false,
};

/// First protocol, its release, what changed there.
type Change = (i32, &'static str, fn(&mut Dialect));

/// Each row: first protocol, its release, and what changed there for this program. A new game release is a row here,
/// a row in `ids` and its wire fixtures.
const CHANGES: &[Change] = &[
    (4, "1.7.2", |_| {}),
    (5, "1.7.6", |d| d.success_id = IdForm::Dashed),
    (47, "1.8", |d| {
        d.array_length = ArrayLength::VarInt;
        d.compression = true;
        d.chat = ChatForm::Position;
        d.action_bar = ActionBarForm::ChatPosition;
    }),
    (107, "1.9", |_| {}),
    (108, "1.9.1", |_| {}),
    (109, "1.9.2", |_| {}),
    (110, "1.9.4", |_| {}),
    (210, "1.10", |_| {}),
    (315, "1.11", |d| d.action_bar = ActionBarForm::Title),
    (316, "1.11.2", |_| {}),
    (335, "1.12", |_| {}),
    (338, "1.12.1", |_| {}),
    (340, "1.12.2", |_| {}),
    (393, "1.13", |d| {
        d.login_plugin = true;
        d.modern_forwarding = ModernForwarding::Default;
        d.suggestions = SuggestionForm::Numbered;
    }),
    (401, "1.13.1", |_| {}),
    (404, "1.13.2", |_| {}),
    (477, "1.14", |_| {}),
    (480, "1.14.1", |_| {}),
    (485, "1.14.2", |_| {}),
    (490, "1.14.3", |_| {}),
    (498, "1.14.4", |_| {}),
    (573, "1.15", |_| {}),
    (575, "1.15.1", |_| {}),
    (578, "1.15.2", |_| {}),
    (735, "1.16", |d| {
        d.success_id = IdForm::Binary;
        d.chat = ChatForm::PositionSender;
    }),
    (736, "1.16.1", |_| {}),
    (751, "1.16.2", |_| {}),
    (753, "1.16.3", |_| {}),
    (754, "1.16.5", |_| {}),
    (755, "1.17", |d| d.action_bar = ActionBarForm::Own),
    (756, "1.17.1", |_| {}),
    (757, "1.18.1", |_| {}),
    (758, "1.18.2", |_| {}),
    (759, "1.19", |d| {
        d.login_start = LoginStartForm::NameKey;
        d.signed_verify_token = true;
        d.success_tail = SuccessTail::Properties;
        d.chat = ChatForm::Type;
        d.modern_forwarding = ModernForwarding::WithKey;
        d.speech = SpeechForm::Alone;
        d.parsers = ParserForm::Number;
    }),
    (760, "1.19.2", |d| {
        d.login_start = LoginStartForm::NameKeyId;
        d.chat = ChatForm::Overlay;
        d.modern_forwarding = ModernForwarding::WithKeyV2;
        d.speech = SpeechForm::LastSeen;
        d.chat_headers = true;
    }),
    (761, "1.19.3", |d| {
        d.login_start = LoginStartForm::NameMaybeId;
        d.signed_verify_token = false;
        d.modern_forwarding = ModernForwarding::LazySession;
        d.speech = SpeechForm::Counted;
        d.chat_headers = false;
        d.player_chat = PlayerChatForm::TypeNumber;
    }),
    (762, "1.19.4", |_| {}),
    (763, "1.20.1", |_| {}),
    (764, "1.20.2", |d| {
        d.login_start = LoginStartForm::NameId;
        d.configuration = true;
    }),
    (765, "1.20.4", |d| d.text = TextForm::Nbt),
    (766, "1.20.6", |d| {
        d.authenticate_flag = true;
        d.success_tail = SuccessTail::PropertiesStrict;
        d.cookies = true;
        d.bare_commands = true;
    }),
    (767, "1.21.1", |d| d.player_chat = PlayerChatForm::TypeHolder),
    (768, "1.21.3", |d| d.success_tail = SuccessTail::Properties),
    (769, "1.21.4", |_| {}),
    (770, "1.21.5", |d| {
        d.speech = SpeechForm::CountedChecksum;
        d.player_chat = PlayerChatForm::Numbered;
    }),
    (771, "1.21.6", |d| d.dialogs = true),
    (772, "1.21.8", |_| {}),
    (773, "1.21.10", |_| {}),
    (774, "1.21.11", |_| {}),
    (775, "26.1", |_| {}),
    (776, "26.2", |d| d.success_tail = SuccessTail::PropertiesSession),
    (777, "26.3", |d| d.player_chat = PlayerChatForm::NumberedBytes),
];

impl Dialect {
    /// The dialect that a protocol number speaks. A number newer than the newest release known here, a snapshot
    /// (they have bit 30 set), and one below the oldest release (server list tools send 0 or -1) speak the newest;
    /// one between two releases speaks the older of them.
    pub fn of(version: ProtocolVersion) -> Self {
        let number = if version.0 < OLDEST.release { i32::MAX } else { version.0 };
        let mut dialect = OLDEST;
        for (from, _, change) in CHANGES.iter().take_while(|(from, _, _)| *from <= number) {
            change(&mut dialect);
            dialect.release = *from;
        }
        dialect.version = version;
        dialect
    }

    /// The protocol number as the client stated it.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Whether the stated number is a release known here.
    pub fn is_known(&self) -> bool {
        self.version.0 == self.release
    }

    /// The protocol number of the release whose dialect this is; the same for all that are treated alike.
    pub fn release(&self) -> ProtocolVersion {
        ProtocolVersion(self.release)
    }

    /// How Mojang binds the profile key in login start to its player; `None` where login start has no key.
    pub fn key_binding(&self) -> Option<KeyBinding> {
        match self.login_start {
            LoginStartForm::NameKey => Some(KeyBinding::Nobody),
            LoginStartForm::NameKeyId => Some(KeyBinding::Player),
            LoginStartForm::Name | LoginStartForm::NameMaybeId | LoginStartForm::NameId => None,
        }
    }

    /// The newest game version that speaks the protocol of this dialect's release.
    pub fn game_version(&self) -> &'static str {
        CHANGES.iter().find(|(number, ..)| *number == self.release).map_or("?", |(_, name, _)| name)
    }

    /// The id of a packet in this dialect, `None` if it does not exist there.
    pub fn id(&self, packet: PacketIds) -> Option<PacketId> {
        packet.in_release(self.release)
    }

    /// Every release known: protocol number and its newest game version.
    pub fn releases() -> impl Iterator<Item = (ProtocolVersion, &'static str)> {
        CHANGES.iter().map(|(number, name, _)| (ProtocolVersion(*number), *name))
    }

    /// The last release of every line of the game (1.8, 1.9.4, 1.12.2, …), oldest first: enough of them to find out
    /// which ones a server takes without asking for all.
    pub fn milestones() -> impl Iterator<Item = Self> {
        // Lines were numbered 1.x until 1.21; since then the year is the first number and each second one a line.
        let line =
            |name: &'static str| name.match_indices('.').nth(1).map_or(name, |(at, _)| name.split_at(at).0);
        let last_of_line =
            move |index: usize, name| CHANGES.get(index + 1).is_none_or(|next| line(next.1) != line(name));
        CHANGES
            .iter()
            .enumerate()
            .filter(move |(index, (_, name, _))| last_of_line(*index, name))
            .map(|(_, (number, ..))| Self::of(ProtocolVersion(*number)))
    }

    /// The milestones older than this dialect's release, and those newer, each with the nearest first.
    pub fn milestones_around(&self) -> (Vec<Self>, Vec<Self>) {
        let others = Self::milestones().filter(|milestone| milestone.release != self.release);
        let (mut older, newer): (Vec<_>, Vec<_>) =
            others.partition(|milestone| milestone.release < self.release);
        older.reverse();
        (older, newer)
    }

    /// The newest release known.
    pub fn newest() -> Self {
        Self::of(ProtocolVersion(i32::MAX)).of_release()
    }

    fn of_release(self) -> Self {
        Self { version: self.release(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_between_and_beyond_releases() {
        let release = |n| Dialect::of(ProtocolVersion(n)).release().0;
        assert_eq!(release(777), 777);
        assert_eq!(release(778), 777);
        assert_eq!(release(0x4000_0123), 777);
        assert_eq!(release(-1), 777);
        assert_eq!(release(0), 777);
        assert_eq!(release(4), 4);
        assert_eq!(release(46), 5);
        assert_eq!(release(392), 340);
        assert!(Dialect::of(ProtocolVersion(774)).is_known());
        assert!(!Dialect::of(ProtocolVersion(778)).is_known());
    }

    #[test]
    fn keys_of_login_start_are_bound_from_1_19_2_on() {
        let binding = |n| Dialect::of(ProtocolVersion(n)).key_binding();
        assert_eq!([758, 761, 777].map(binding), [None; 3]);
        assert_eq!((binding(759), binding(760)), (Some(KeyBinding::Nobody), Some(KeyBinding::Player)));
    }

    #[test]
    fn milestones_are_the_last_of_their_line() {
        let names: Vec<_> = Dialect::milestones().map(|dialect| dialect.game_version()).collect();
        let old =
            ["1.7.6", "1.8", "1.9.4", "1.10", "1.11.2", "1.12.2", "1.13.2", "1.14.4", "1.15.2", "1.16.5"];
        let new = ["1.17.1", "1.18.2", "1.19.4", "1.20.6", "1.21.11", "26.1", "26.2", "26.3"];
        assert_eq!(names, [&old[..], &new[..]].concat());
        assert_eq!(Dialect::newest(), Dialect::milestones().last().unwrap());
        assert!(Dialect::milestones().all(|dialect| dialect.is_known()));
        assert_eq!(Dialect::of(ProtocolVersion(341)).game_version(), "1.12.2");
        let (older, newer) = Dialect::of(ProtocolVersion(769)).milestones_around();
        assert_eq!((older[0].game_version(), newer[0].game_version()), ("1.20.6", "1.21.11"));
        assert_eq!(older.len() + newer.len(), names.len());
    }

    #[test]
    fn rows_are_in_order() {
        assert!(CHANGES.windows(2).all(|w| w[0].0 < w[1].0));
    }
}
