//! Judging everybody.

use std::{collections::HashMap, net::IpAddr};

use jiff::Timestamp;

use super::{
    CONSIDERED, Terms,
    player::{Accounts, Player},
    relax::{self, Relaxed},
    report::{Cost, Relaxation, Report},
};
use crate::{address, identity::NameKey, reason::Reason, session::record::Session};

/// Names shown with a reason. They help to ask somebody, and to recognise a pattern.
const MOST_NAMES: usize = 20;

/// Everybody in a store, made ready for judging under any terms.
#[derive(Debug)]
pub struct Population {
    now: Timestamp,
    /// Those who are considered; seen last first.
    players: Vec<Player>,
    /// The verified addresses of all sessions, and when each was verified; each once per session.
    addresses: Vec<(IpAddr, Timestamp)>,
}

/// What speaks against each player under some terms, in the order of the players.
struct Judged<'a> {
    terms: &'a Terms,
    accounts: Accounts,
    objections: Vec<Vec<Reason>>,
}

impl Population {
    /// All sessions of a store that count at `now`.
    pub fn new(mut sessions: Vec<Session>, now: Timestamp) -> Self {
        rob(&mut sessions);
        let mut addresses = Vec::with_capacity(sessions.len());
        for session in &sessions {
            let mut own: Vec<_> = session
                .addresses
                .iter()
                .map(|known| (address::unmap(known.address), known.verified))
                .collect();
            // Newest first; older ones of the same address are none of their own.
            own.sort_by_key(|(address, verified)| (*address, std::cmp::Reverse(*verified)));
            own.dedup_by_key(|(address, _)| *address);
            addresses.append(&mut own);
        }
        let seen =
            sessions.into_iter().filter(|session| now.duration_since(session.last_presence()) <= CONSIDERED);
        let mut players: Vec<Player> = seen.filter_map(Player::new).collect();
        players.sort_by_key(|player| std::cmp::Reverse(player.last_presence()));
        Self { now, players, addresses }
    }

    /// Judges everybody under these terms, and anew under each relaxation of a rule that keeps somebody out.
    pub fn report(&self, terms: &Terms) -> Report {
        let accounts = self.accounts(terms);
        let objections: Vec<_> =
            self.players.iter().map(|player| player.objections(terms, &accounts, self.now)).collect();
        let ready = objections.iter().filter(|objections| objections.is_empty()).count();
        let judged_ready =
            self.players.iter().zip(&objections).filter(|(_, objections)| objections.is_empty());
        let must_enter_pin = judged_ready.filter(|(player, _)| player.must_enter_pin(terms)).count();
        let judged = Judged { terms, accounts, objections };
        let costs = Reason::ALL.iter().filter_map(|reason| self.cost(*reason, ready, &judged));
        Report {
            considered: self.players.len(),
            ready,
            must_enter_pin,
            not_ready: self.players.len() - ready,
            unrehearsed: self.players.iter().filter(|player| player.is_unrecorded).count(),
            reasons: costs.collect(),
        }
    }

    /// What a reason costs; `None` if it costs nobody anything.
    fn cost(&self, reason: Reason, ready: usize, judged: &Judged<'_>) -> Option<Cost> {
        let (mut first, mut any, mut alone) = (0, 0, 0);
        let mut players = Vec::new();
        let telling =
            self.players.iter().zip(&judged.objections).filter(|(player, _)| player.tells_of(reason));
        for (player, objections) in telling {
            any += usize::from(objections.contains(&reason));
            alone += usize::from(*objections == [reason]);
            if objections.first() == Some(&reason) {
                first += 1;
                if players.len() < MOST_NAMES
                    && let Some(name) = player.name()
                {
                    players.push(name.to_string());
                }
            }
        }
        if any == 0 {
            return None;
        }
        let relaxations = if alone > 0 { self.relax(reason, alone, ready, judged) } else { Vec::new() };
        let (rule, hint) = (relax::rule(reason), relax::hint(reason));
        Some(Cost { reason, rule, first, any, alone, hint, relaxations, players })
    }

    /// The relaxations of the rule behind a reason that let somebody in whom it `alone` keeps out.
    fn relax(&self, reason: Reason, alone: usize, ready: usize, judged: &Judged<'_>) -> Vec<Relaxation> {
        let mut helpful: Vec<Relaxation> = Vec::new();
        for Relaxed { key, value, gives_up, is_last_resort, terms } in
            relax::relaxations(reason, judged.terms)
        {
            let (alone_then, ready_then) = self.judge_anew(reason, ready, judged, &terms);
            // More of the same, and what switches a protection off, are told only if they help more.
            let milder = helpful.iter().filter(|known| is_last_resort || known.key == key);
            let helps = milder.map(|known| known.ready).max().unwrap_or(ready);
            if ready_then > helps && alone_then < alone {
                helpful.push(Relaxation { key, value, alone: alone_then, ready: ready_then, gives_up });
            }
        }
        helpful
    }

    /// How many the reason alone keeps out under relaxed terms, and how many could join.
    ///
    /// Only those are judged anew to whom it can make a difference. As a rule that is against whom the reason speaks.
    /// With wider ranges the newest login matches more addresses, which count from then on for the other rules too; that
    /// harms nobody. Addresses that count for longer are harm to those who share one by that.
    fn judge_anew(&self, reason: Reason, ready: usize, judged: &Judged<'_>, terms: &Terms) -> (usize, usize) {
        let (rules, before) = (&terms.rules, &judged.terms.rules);
        let ages = rules.max_address_age != before.max_address_age;
        let ranges = (rules.ipv4_range_prefix, rules.ipv6_range_prefix)
            != (before.ipv4_range_prefix, before.ipv6_range_prefix);
        let matters =
            |objections: &[Reason]| ages || ranges && !objections.is_empty() || objections.contains(&reason);
        let recounted = ages.then(|| self.accounts(terms));
        let accounts = recounted.as_ref().unwrap_or(&judged.accounts);
        let (mut alone, mut ready) = (0, ready);
        let anew = self.players.iter().zip(&judged.objections);
        for (player, before) in anew.filter(|(player, before)| player.tells_of(reason) && matters(before)) {
            let objections = player.objections(terms, accounts, self.now);
            alone += usize::from(objections == [reason]);
            ready += usize::from(objections.is_empty());
            ready -= usize::from(before.is_empty());
        }
        (alone, ready)
    }

    fn accounts(&self, terms: &Terms) -> Accounts {
        Accounts::count(&self.addresses, terms.rules.max_address_age, self.now)
    }
}

/// A crash between two writes, or a copied file, can leave one name with two players. Who was verified with it later has
/// it, as when the proxy opens its store.
fn rob(sessions: &mut [Session]) {
    sessions.sort_by_key(|session| (session.last_verified, session.id));
    let mut owners: HashMap<NameKey, usize> = HashMap::with_capacity(sessions.len());
    let mut robbed = Vec::new();
    for (index, session) in sessions.iter().enumerate() {
        if let Some(name) = &session.name {
            robbed.extend(owners.insert(name.key(), index));
        }
    }
    for index in robbed {
        if let Some(session) = sessions.get_mut(index) {
            session.name = None;
        }
    }
}
