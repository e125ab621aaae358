// The signed player keys of 1.19 to 1.19.2: made here as Mojang's services make them, with an authority of our own.

import { generateKeyPairSync, sign } from 'node:crypto'
import { undashed } from './session-server.mjs'

const HOUR = 3600_000

export class KeyAuthority {
  #keys = generateKeyPairSync('rsa', { modulusLength: 2048 })

  /** As it is published: base64 of the DER. */
  get publicKey () {
    return this.#keys.publicKey.export({ type: 'spki', format: 'der' }).toString('base64')
  }

  /** A key for `player`, in the shape in which minecraft-protocol's client keeps it; `hours` until it expires. */
  certify (player, { hours = 24 } = {}) {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const der = publicKey.export({ type: 'spki', format: 'der' })
    const expiresOn = new Date(Date.now() + hours * HOUR)
    const expiry = Buffer.alloc(8)
    expiry.writeBigInt64BE(BigInt(expiresOn.getTime()))
    return {
      public: publicKey,
      private: privateKey,
      expiresOn,
      // 1.19 signs text, later versions bind the key to the player's id.
      signature: this.#sign(Buffer.from(expiresOn.getTime() + pem(der))),
      signatureV2: this.#sign(Buffer.concat([Buffer.from(undashed(player.id), 'hex'), expiry, der]))
    }
  }

  #sign (data) {
    return sign('RSA-SHA1', data, this.#keys.privateKey)
  }
}

function pem (der) {
  return `-----BEGIN RSA PUBLIC KEY-----\n${der.toString('base64').replace(/.{1,76}/g, '$&\n')}-----END RSA PUBLIC KEY-----\n`
}
