//! Packet ids of every release, by state and direction. Ids moved often between releases; these ranges were
//! cross-checked over at least two, mostly three or more, independent public implementations.

/// A packet id as it stands on the wire.
pub type PacketId = i32;

/// The ids of one packet: first protocol, last protocol, id. Ranges run over release protocols only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketIds(&'static [(i32, i32, PacketId)]);

impl PacketIds {
    /// The id in a known release, `None` if that release does not have the packet.
    pub(super) fn in_release(self, release: i32) -> Option<PacketId> {
        self.0.iter().find(|(from, to, _)| (*from..=*to).contains(&release)).map(|(_, _, id)| *id)
    }

    /// The ranges: first protocol, last protocol, id.
    pub fn ranges(self) -> &'static [(i32, i32, PacketId)] {
        self.0
    }
}

macro_rules! ids {
    ($($state:ident $direction:ident { $($name:ident $text:literal $ranges:tt;)* })*) => {
        $(
            #[doc = concat!("Ids of ", stringify!($state), " packets, ", stringify!($direction), ".")]
            pub mod $state {
                $(
                    #[doc = concat!("`", $text, "`")]
                    pub const $name: super::PacketIds = super::PacketIds(&$ranges);
                )*
            }
        )*

        /// Every row: state and direction, packet name, ids.
        pub const ALL: &[(&str, &str, PacketIds)] =
            &[$($((stringify!($state), $text, $state::$name),)*)*];
    };
}

ids! {
    handshake_serverbound serverbound {
        INTENTION "intention" [(4, 777, 0x00)];
    }
    status_clientbound clientbound {
        STATUS_RESPONSE "status_response" [(4, 777, 0x00)];
        PONG_RESPONSE "pong_response" [(4, 777, 0x01)];
    }
    status_serverbound serverbound {
        STATUS_REQUEST "status_request" [(4, 777, 0x00)];
        PING_REQUEST "ping_request" [(4, 777, 0x01)];
    }
    login_clientbound clientbound {
        DISCONNECT "disconnect" [(4, 777, 0x00)];
        ENCRYPTION_REQUEST "encryption_request" [(4, 777, 0x01)];
        LOGIN_SUCCESS "login_success" [(4, 777, 0x02)];
        SET_COMPRESSION "set_compression" [(47, 777, 0x03)];
        LOGIN_PLUGIN_REQUEST "login_plugin_request" [(393, 777, 0x04)];
        COOKIE_REQUEST "cookie_request" [(766, 777, 0x05)];
    }
    login_serverbound serverbound {
        LOGIN_START "login_start" [(4, 777, 0x00)];
        ENCRYPTION_RESPONSE "encryption_response" [(4, 777, 0x01)];
        LOGIN_PLUGIN_RESPONSE "login_plugin_response" [(393, 777, 0x02)];
        LOGIN_ACKNOWLEDGED "login_acknowledged" [(764, 777, 0x03)];
        COOKIE_RESPONSE "cookie_response" [(766, 777, 0x04)];
    }
    configuration_clientbound clientbound {
        COOKIE_REQUEST "cookie_request" [(766, 777, 0x00)];
        PLUGIN_MESSAGE "plugin_message" [(764, 765, 0x00), (766, 777, 0x01)];
        DISCONNECT "disconnect" [(764, 765, 0x01), (766, 777, 0x02)];
        FINISH_CONFIGURATION "finish_configuration" [(764, 765, 0x02), (766, 777, 0x03)];
        KEEP_ALIVE "keep_alive" [(764, 765, 0x03), (766, 777, 0x04)];
        PING "ping" [(764, 765, 0x04), (766, 777, 0x05)];
        RESET_CHAT "reset_chat" [(766, 777, 0x06)];
        REGISTRY_DATA "registry_data" [(764, 765, 0x05), (766, 777, 0x07)];
        REMOVE_RESOURCE_PACK "remove_resource_pack" [(765, 765, 0x06), (766, 777, 0x08)];
        ADD_RESOURCE_PACK "add_resource_pack" [(764, 764, 0x06), (765, 765, 0x07), (766, 777, 0x09)];
        POST_EFFECTS "post_effects" [(777, 777, 0x0a)];
        STORE_COOKIE "store_cookie" [(766, 776, 0x0a), (777, 777, 0x0b)];
        TRANSFER "transfer" [(766, 776, 0x0b), (777, 777, 0x0c)];
        FEATURE_FLAGS "feature_flags" [(764, 764, 0x07), (765, 765, 0x08), (766, 776, 0x0c), (777, 777, 0x0d)];
        UPDATE_TAGS "update_tags" [(764, 764, 0x08), (765, 765, 0x09), (766, 776, 0x0d), (777, 777, 0x0e)];
        SELECT_KNOWN_PACKS "select_known_packs" [(766, 776, 0x0e), (777, 777, 0x0f)];
        CUSTOM_REPORT_DETAILS "custom_report_details" [(767, 776, 0x0f), (777, 777, 0x10)];
        SERVER_LINKS "server_links" [(767, 776, 0x10), (777, 777, 0x11)];
        CLEAR_DIALOG "clear_dialog" [(771, 776, 0x11), (777, 777, 0x12)];
        SHOW_DIALOG "show_dialog" [(771, 776, 0x12), (777, 777, 0x13)];
        CODE_OF_CONDUCT "code_of_conduct" [(773, 776, 0x13), (777, 777, 0x14)];
    }
    configuration_serverbound serverbound {
        CLIENT_INFORMATION "client_information" [(764, 777, 0x00)];
        COOKIE_RESPONSE "cookie_response" [(766, 777, 0x01)];
        PLUGIN_MESSAGE "plugin_message" [(764, 765, 0x01), (766, 777, 0x02)];
        ACKNOWLEDGE_FINISH_CONFIGURATION "acknowledge_finish_configuration" [(764, 765, 0x02), (766, 777, 0x03)];
        KEEP_ALIVE "keep_alive" [(764, 765, 0x03), (766, 777, 0x04)];
        PONG "pong" [(764, 765, 0x04), (766, 777, 0x05)];
        RESOURCE_PACK "resource_pack" [(764, 765, 0x05), (766, 777, 0x06)];
        SELECT_KNOWN_PACKS "select_known_packs" [(766, 777, 0x07)];
        CUSTOM_CLICK_ACTION "custom_click_action" [(771, 777, 0x08)];
        ACCEPT_CODE_OF_CONDUCT "accept_code_of_conduct" [(773, 777, 0x09)];
    }
    play_clientbound clientbound {
        BUNDLE_DELIMITER "bundle_delimiter" [(762, 777, 0x00)];
        DISCONNECT "disconnect" [(4, 47, 0x40), (107, 340, 0x1a), (393, 404, 0x1b), (477, 498, 0x1a), (573, 578, 0x1b), (735, 736, 0x1a), (751, 754, 0x19), (755, 758, 0x1a), (759, 759, 0x17), (760, 760, 0x19), (761, 761, 0x17), (762, 763, 0x1a), (764, 765, 0x1b), (766, 769, 0x1d), (770, 772, 0x1c), (773, 777, 0x20)];
        CHAT_MESSAGE "chat_message" [(4, 47, 0x02), (107, 340, 0x0f), (393, 498, 0x0e), (573, 578, 0x0f), (735, 754, 0x0e), (755, 758, 0x0f)];
        SYSTEM_CHAT "system_chat" [(759, 759, 0x5f), (760, 760, 0x62), (761, 761, 0x60), (762, 763, 0x64), (764, 764, 0x67), (765, 765, 0x69), (766, 767, 0x6c), (768, 769, 0x73), (770, 772, 0x72), (773, 774, 0x77), (775, 776, 0x79), (777, 777, 0x7c)];
        PLAYER_CHAT "player_chat" [(759, 759, 0x30), (760, 760, 0x33), (761, 761, 0x31), (762, 763, 0x35), (764, 765, 0x37), (766, 767, 0x39), (768, 769, 0x3b), (770, 772, 0x3a), (773, 774, 0x3f), (775, 776, 0x41), (777, 777, 0x42)];
        PLAYER_CHAT_HEADER "player_chat_header" [(760, 760, 0x32)];
        DISGUISED_CHAT "disguised_chat" [(761, 761, 0x18), (762, 763, 0x1b), (764, 765, 0x1c), (766, 769, 0x1e), (770, 772, 0x1d), (773, 777, 0x21)];
        DELETE_CHAT "delete_chat" [(760, 760, 0x18), (761, 761, 0x16), (762, 763, 0x19), (764, 765, 0x1a), (766, 769, 0x1c), (770, 772, 0x1b), (773, 777, 0x1f)];
        LOGIN "login" [(4, 47, 0x01), (107, 340, 0x23), (393, 498, 0x25), (573, 578, 0x26), (735, 736, 0x25), (751, 754, 0x24), (755, 758, 0x26), (759, 759, 0x23), (760, 760, 0x25), (761, 761, 0x24), (762, 763, 0x28), (764, 765, 0x29), (766, 767, 0x2b), (768, 769, 0x2c), (770, 772, 0x2b), (773, 774, 0x30), (775, 776, 0x31), (777, 777, 0x32)];
        START_CONFIGURATION "start_configuration" [(764, 764, 0x65), (765, 765, 0x67), (766, 767, 0x69), (768, 769, 0x70), (770, 772, 0x6f), (773, 774, 0x74), (775, 776, 0x76), (777, 777, 0x78)];
        KEEP_ALIVE "keep_alive" [(4, 47, 0x00), (107, 340, 0x1f), (393, 404, 0x21), (477, 498, 0x20), (573, 578, 0x21), (735, 736, 0x20), (751, 754, 0x1f), (755, 758, 0x21), (759, 759, 0x1e), (760, 760, 0x20), (761, 761, 0x1f), (762, 763, 0x23), (764, 765, 0x24), (766, 767, 0x26), (768, 769, 0x27), (770, 772, 0x26), (773, 774, 0x2b), (775, 776, 0x2c), (777, 777, 0x2d)];
        PING "ping" [(755, 758, 0x30), (759, 759, 0x2d), (760, 760, 0x2f), (761, 761, 0x2e), (762, 763, 0x32), (764, 765, 0x33), (766, 767, 0x35), (768, 769, 0x37), (770, 772, 0x36), (773, 774, 0x3b), (775, 776, 0x3d), (777, 777, 0x3e)];
        PLUGIN_MESSAGE "plugin_message" [(4, 47, 0x3f), (107, 340, 0x18), (393, 404, 0x19), (477, 498, 0x18), (573, 578, 0x19), (735, 736, 0x18), (751, 754, 0x17), (755, 758, 0x18), (759, 759, 0x15), (760, 760, 0x16), (761, 761, 0x15), (762, 763, 0x17), (764, 765, 0x18), (766, 769, 0x19), (770, 777, 0x18)];
        PLAYER_INFO "player_info" [(4, 47, 0x38), (107, 335, 0x2d), (338, 340, 0x2e), (393, 404, 0x30), (477, 498, 0x33), (573, 578, 0x34), (735, 736, 0x33), (751, 754, 0x32), (755, 758, 0x36), (759, 759, 0x34), (760, 760, 0x37)];
        PLAYER_INFO_UPDATE "player_info_update" [(761, 761, 0x36), (762, 763, 0x3a), (764, 765, 0x3c), (766, 767, 0x3e), (768, 769, 0x40), (770, 772, 0x3f), (773, 774, 0x44), (775, 776, 0x46), (777, 777, 0x47)];
        PLAYER_INFO_REMOVE "player_info_remove" [(761, 761, 0x35), (762, 763, 0x39), (764, 765, 0x3b), (766, 767, 0x3d), (768, 769, 0x3f), (770, 772, 0x3e), (773, 774, 0x43), (775, 776, 0x45), (777, 777, 0x46)];
        PLAYER_POSITION "player_position" [(4, 47, 0x08), (107, 335, 0x2e), (338, 340, 0x2f), (393, 404, 0x32), (477, 498, 0x35), (573, 578, 0x36), (735, 736, 0x35), (751, 754, 0x34), (755, 758, 0x38), (759, 759, 0x36), (760, 760, 0x39), (761, 761, 0x38), (762, 763, 0x3c), (764, 765, 0x3e), (766, 767, 0x40), (768, 769, 0x42), (770, 772, 0x41), (773, 774, 0x46), (775, 776, 0x48), (777, 777, 0x49)];
        RESPAWN "respawn" [(4, 47, 0x07), (107, 316, 0x33), (335, 335, 0x34), (338, 340, 0x35), (393, 404, 0x38), (477, 498, 0x3a), (573, 578, 0x3b), (735, 736, 0x3a), (751, 754, 0x39), (755, 758, 0x3d), (759, 759, 0x3b), (760, 760, 0x3e), (761, 761, 0x3d), (762, 763, 0x41), (764, 764, 0x43), (765, 765, 0x45), (766, 767, 0x47), (768, 769, 0x4c), (770, 772, 0x4b), (773, 774, 0x50), (775, 776, 0x52), (777, 777, 0x54)];
        COMMANDS "commands" [(393, 498, 0x11), (573, 578, 0x12), (735, 736, 0x11), (751, 754, 0x10), (755, 758, 0x12), (759, 760, 0x0f), (761, 761, 0x0e), (762, 763, 0x10), (764, 769, 0x11), (770, 777, 0x10)];
        COMMAND_SUGGESTIONS "command_suggestions" [(4, 47, 0x3a), (107, 340, 0x0e), (393, 498, 0x10), (573, 578, 0x11), (735, 736, 0x10), (751, 754, 0x0f), (755, 758, 0x11), (759, 760, 0x0e), (761, 761, 0x0d), (762, 763, 0x0f), (764, 769, 0x10), (770, 777, 0x0f)];
        TITLE_LEGACY "title_legacy" [(47, 316, 0x45), (335, 335, 0x47), (338, 340, 0x48), (393, 404, 0x4b), (477, 498, 0x4f), (573, 578, 0x50), (735, 754, 0x4f)];
        SET_ACTION_BAR_TEXT "set_action_bar_text" [(755, 758, 0x41), (759, 759, 0x40), (760, 760, 0x43), (761, 761, 0x42), (762, 763, 0x46), (764, 764, 0x48), (765, 765, 0x4a), (766, 767, 0x4c), (768, 769, 0x51), (770, 772, 0x50), (773, 774, 0x55), (775, 776, 0x57), (777, 777, 0x59)];
        SET_TITLE_TEXT "set_title_text" [(755, 756, 0x59), (757, 759, 0x5a), (760, 760, 0x5d), (761, 761, 0x5b), (762, 763, 0x5f), (764, 764, 0x61), (765, 765, 0x63), (766, 767, 0x65), (768, 769, 0x6c), (770, 772, 0x6b), (773, 774, 0x70), (775, 776, 0x72), (777, 777, 0x74)];
        SET_SUBTITLE_TEXT "set_subtitle_text" [(755, 756, 0x57), (757, 759, 0x58), (760, 760, 0x5b), (761, 761, 0x59), (762, 763, 0x5d), (764, 764, 0x5f), (765, 765, 0x61), (766, 767, 0x63), (768, 769, 0x6a), (770, 772, 0x69), (773, 774, 0x6e), (775, 776, 0x70), (777, 777, 0x72)];
        SET_TITLES_ANIMATION "set_titles_animation" [(755, 756, 0x5a), (757, 759, 0x5b), (760, 760, 0x5e), (761, 761, 0x5c), (762, 763, 0x60), (764, 764, 0x62), (765, 765, 0x64), (766, 767, 0x66), (768, 769, 0x6d), (770, 772, 0x6c), (773, 774, 0x71), (775, 776, 0x73), (777, 777, 0x75)];
        CLEAR_TITLES "clear_titles" [(755, 758, 0x10), (759, 760, 0x0d), (761, 761, 0x0c), (762, 763, 0x0e), (764, 769, 0x0f), (770, 777, 0x0e)];
        REMOVE_RESOURCE_PACK "remove_resource_pack" [(765, 765, 0x43), (766, 767, 0x45), (768, 769, 0x4a), (770, 772, 0x49), (773, 774, 0x4e), (775, 776, 0x50), (777, 777, 0x51)];
        ADD_RESOURCE_PACK "add_resource_pack" [(47, 47, 0x48), (107, 316, 0x32), (335, 335, 0x33), (338, 340, 0x34), (393, 404, 0x37), (477, 498, 0x39), (573, 578, 0x3a), (735, 736, 0x39), (751, 754, 0x38), (755, 758, 0x3c), (759, 759, 0x3a), (760, 760, 0x3d), (761, 761, 0x3c), (762, 763, 0x40), (764, 764, 0x42), (765, 765, 0x44), (766, 767, 0x46), (768, 769, 0x4b), (770, 772, 0x4a), (773, 774, 0x4f), (775, 776, 0x51), (777, 777, 0x52)];
        SERVER_DATA "server_data" [(759, 759, 0x3f), (760, 760, 0x42), (761, 761, 0x41), (762, 763, 0x45), (764, 764, 0x47), (765, 765, 0x49), (766, 767, 0x4b), (768, 769, 0x50), (770, 772, 0x4f), (773, 774, 0x54), (775, 776, 0x56), (777, 777, 0x58)];
        TAB_LIST "tab_list" [(47, 47, 0x47), (107, 109, 0x48), (110, 316, 0x47), (335, 335, 0x49), (338, 340, 0x4a), (393, 404, 0x4e), (477, 498, 0x53), (573, 578, 0x54), (735, 754, 0x53), (755, 756, 0x5e), (757, 758, 0x5f), (759, 759, 0x60), (760, 760, 0x63), (761, 761, 0x61), (762, 763, 0x65), (764, 764, 0x68), (765, 765, 0x6a), (766, 767, 0x6d), (768, 769, 0x74), (770, 772, 0x73), (773, 774, 0x78), (775, 776, 0x7a), (777, 777, 0x7d)];
        SET_COMPRESSION "set_compression" [(47, 47, 0x46)];
        COOKIE_REQUEST "cookie_request" [(766, 769, 0x16), (770, 777, 0x15)];
        STORE_COOKIE "store_cookie" [(766, 767, 0x6b), (768, 769, 0x72), (770, 772, 0x71), (773, 774, 0x76), (775, 776, 0x78), (777, 777, 0x7a)];
        TRANSFER "transfer" [(766, 767, 0x73), (768, 772, 0x7a), (773, 774, 0x7f), (775, 776, 0x81), (777, 777, 0x84)];
        CLEAR_DIALOG "clear_dialog" [(771, 772, 0x84), (773, 774, 0x89), (775, 776, 0x8b), (777, 777, 0x8e)];
        SHOW_DIALOG "show_dialog" [(771, 772, 0x85), (773, 774, 0x8a), (775, 776, 0x8c), (777, 777, 0x8f)];
        CUSTOM_REPORT_DETAILS "custom_report_details" [(767, 767, 0x7a), (768, 772, 0x81), (773, 774, 0x86), (775, 776, 0x88), (777, 777, 0x8b)];
        SERVER_LINKS "server_links" [(767, 767, 0x7b), (768, 772, 0x82), (773, 774, 0x87), (775, 776, 0x89), (777, 777, 0x8c)];
        POST_EFFECTS "post_effects" [(777, 777, 0x53)];
    }
    play_serverbound serverbound {
        CONFIRM_TELEPORT "confirm_teleport" [(107, 777, 0x00)];
        CONFIRM_TRANSACTION "confirm_transaction" [(4, 47, 0x0f), (107, 316, 0x05), (335, 335, 0x06), (338, 340, 0x05), (393, 404, 0x06), (477, 754, 0x07)];
        CHAT_ACK "chat_ack" [(760, 767, 0x03), (768, 770, 0x04), (771, 774, 0x05), (775, 777, 0x06)];
        CHAT_COMMAND "chat_command" [(759, 759, 0x03), (760, 767, 0x04), (768, 770, 0x05), (771, 774, 0x06), (775, 777, 0x07)];
        CHAT_COMMAND_SIGNED "chat_command_signed" [(766, 767, 0x05), (768, 770, 0x06), (771, 774, 0x07), (775, 777, 0x08)];
        CHAT_MESSAGE "chat_message" [(4, 47, 0x01), (107, 316, 0x02), (335, 335, 0x03), (338, 404, 0x02), (477, 758, 0x03), (759, 759, 0x04), (760, 765, 0x05), (766, 767, 0x06), (768, 770, 0x07), (771, 774, 0x08), (775, 777, 0x09)];
        CHAT_PREVIEW "chat_preview" [(759, 759, 0x05), (760, 760, 0x06)];
        CHAT_SESSION_UPDATE "chat_session_update" [(761, 761, 0x20), (762, 765, 0x06), (766, 767, 0x07), (768, 770, 0x08), (771, 774, 0x09), (775, 777, 0x0a)];
        CHUNK_BATCH_RECEIVED "chunk_batch_received" [(764, 765, 0x07), (766, 767, 0x08), (768, 770, 0x09), (771, 774, 0x0a), (775, 777, 0x0b)];
        CLIENT_COMMAND "client_command" [(4, 47, 0x16), (107, 316, 0x03), (335, 335, 0x04), (338, 404, 0x03), (477, 758, 0x04), (759, 759, 0x06), (760, 760, 0x07), (761, 761, 0x06), (762, 763, 0x07), (764, 765, 0x08), (766, 767, 0x09), (768, 770, 0x0a), (771, 774, 0x0b), (775, 777, 0x0c)];
        CLIENT_INFORMATION "client_information" [(4, 47, 0x15), (107, 316, 0x04), (335, 335, 0x05), (338, 404, 0x04), (477, 758, 0x05), (759, 759, 0x07), (760, 760, 0x08), (761, 761, 0x07), (762, 763, 0x08), (764, 765, 0x09), (766, 767, 0x0a), (768, 770, 0x0c), (771, 774, 0x0d), (775, 777, 0x0e)];
        COMMAND_SUGGESTIONS_REQUEST "command_suggestions_request" [(4, 47, 0x14), (107, 316, 0x01), (335, 335, 0x02), (338, 340, 0x01), (393, 404, 0x05), (477, 758, 0x06), (759, 759, 0x08), (760, 760, 0x09), (761, 761, 0x08), (762, 763, 0x09), (764, 765, 0x0a), (766, 767, 0x0b), (768, 770, 0x0d), (771, 774, 0x0e), (775, 777, 0x0f)];
        CONFIGURATION_ACKNOWLEDGED "configuration_acknowledged" [(764, 765, 0x0b), (766, 767, 0x0c), (768, 770, 0x0e), (771, 774, 0x0f), (775, 777, 0x10)];
        COOKIE_RESPONSE "cookie_response" [(766, 767, 0x11), (768, 770, 0x13), (771, 774, 0x14), (775, 777, 0x15)];
        PLUGIN_MESSAGE "plugin_message" [(4, 47, 0x17), (107, 316, 0x09), (335, 335, 0x0a), (338, 340, 0x09), (393, 404, 0x0a), (477, 754, 0x0b), (755, 758, 0x0a), (759, 759, 0x0c), (760, 760, 0x0d), (761, 761, 0x0c), (762, 763, 0x0d), (764, 764, 0x0f), (765, 765, 0x10), (766, 767, 0x12), (768, 770, 0x14), (771, 774, 0x15), (775, 777, 0x16)];
        KEEP_ALIVE "keep_alive" [(4, 47, 0x00), (107, 316, 0x0b), (335, 335, 0x0c), (338, 340, 0x0b), (393, 404, 0x0e), (477, 578, 0x0f), (735, 754, 0x10), (755, 758, 0x0f), (759, 759, 0x11), (760, 760, 0x12), (761, 761, 0x11), (762, 763, 0x12), (764, 764, 0x14), (765, 765, 0x15), (766, 767, 0x18), (768, 770, 0x1a), (771, 774, 0x1b), (775, 777, 0x1c)];
        PLAYER_LOADED "player_loaded" [(769, 770, 0x2a), (771, 774, 0x2b), (775, 777, 0x2c)];
        PONG "pong" [(755, 758, 0x1d), (759, 759, 0x1f), (760, 760, 0x20), (761, 761, 0x1f), (762, 763, 0x20), (764, 764, 0x23), (765, 765, 0x24), (766, 767, 0x27), (768, 768, 0x29), (769, 770, 0x2b), (771, 774, 0x2c), (775, 777, 0x2d)];
        RESOURCE_PACK "resource_pack" [(47, 47, 0x19), (107, 316, 0x16), (335, 340, 0x18), (393, 404, 0x1d), (477, 578, 0x1f), (735, 736, 0x20), (751, 758, 0x21), (759, 759, 0x23), (760, 763, 0x24), (764, 764, 0x27), (765, 765, 0x28), (766, 767, 0x2b), (768, 768, 0x2d), (769, 770, 0x2f), (771, 774, 0x30), (775, 776, 0x31), (777, 777, 0x32)];
        TICK_END "tick_end" [(768, 770, 0x0b), (771, 774, 0x0c), (775, 777, 0x0d)];
        CUSTOM_CLICK_ACTION "custom_click_action" [(771, 774, 0x41), (775, 777, 0x44)];
        MOVE_PLAYER_POS "move_player_pos" [(4, 47, 0x04), (107, 316, 0x0c), (335, 335, 0x0e), (338, 340, 0x0d), (393, 404, 0x10), (477, 578, 0x11), (735, 754, 0x12), (755, 758, 0x11), (759, 759, 0x13), (760, 760, 0x14), (761, 761, 0x13), (762, 763, 0x14), (764, 764, 0x16), (765, 765, 0x17), (766, 767, 0x1a), (768, 770, 0x1c), (771, 774, 0x1d), (775, 777, 0x1e)];
        MOVE_PLAYER_POS_ROT "move_player_pos_rot" [(4, 47, 0x06), (107, 316, 0x0d), (335, 335, 0x0f), (338, 340, 0x0e), (393, 404, 0x11), (477, 578, 0x12), (735, 754, 0x13), (755, 758, 0x12), (759, 759, 0x14), (760, 760, 0x15), (761, 761, 0x14), (762, 763, 0x15), (764, 764, 0x17), (765, 765, 0x18), (766, 767, 0x1b), (768, 770, 0x1d), (771, 774, 0x1e), (775, 777, 0x1f)];
        MOVE_PLAYER_ROT "move_player_rot" [(4, 47, 0x05), (107, 316, 0x0e), (335, 335, 0x10), (338, 340, 0x0f), (393, 404, 0x12), (477, 578, 0x13), (735, 754, 0x14), (755, 758, 0x13), (759, 759, 0x15), (760, 760, 0x16), (761, 761, 0x15), (762, 763, 0x16), (764, 764, 0x18), (765, 765, 0x19), (766, 767, 0x1c), (768, 770, 0x1e), (771, 774, 0x1f), (775, 777, 0x20)];
        MOVE_PLAYER_STATUS_ONLY "move_player_status_only" [(4, 47, 0x03), (107, 316, 0x0f), (335, 335, 0x0d), (338, 340, 0x0c), (393, 404, 0x0f), (477, 578, 0x14), (735, 754, 0x15), (755, 758, 0x14), (759, 759, 0x16), (760, 760, 0x17), (761, 761, 0x16), (762, 763, 0x17), (764, 764, 0x19), (765, 765, 0x1a), (766, 767, 0x1d), (768, 770, 0x1f), (771, 774, 0x20), (775, 777, 0x21)];
    }
}
