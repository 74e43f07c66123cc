/** One manifest of a repository, with its layers, and how often it was pulled. Source: quay-api reference, sections 9, 20. */

import { z } from "zod";
import { getManifestView, type LayerView } from "../../domain/manifest/view.ts";
import { getManifestPulls } from "../../domain/pullstats/statistics.ts";
import { parseDigest } from "../../oci/digest.ts";
import { type ApiRoute, json, route } from "./route.ts";
import { lastDate } from "./tag.ts";
import { httpDate, httpDateSchema, isoDateSchema } from "./views.ts";

const manifestPath = "/repository/{repository}/manifest/{manifestref}";

const layerSchema = () =>
  z.strictObject({
    index: z.int(),
    compressed_size: z.int().nullable(),
    is_remote: z.boolean(),
    urls: z.array(z.string()).nullable(),
    command: z.array(z.string()).nullable(),
    comment: z.string().nullable(),
    author: z.string().nullable(),
    blob_digest: z.string(),
    created_datetime: httpDateSchema().nullable(),
  });

function layerView(layer: LayerView, index: number) {
  return {
    index,
    compressed_size: layer.sizeBytes,
    is_remote: layer.isRemote,
    urls: layer.urls ?? null,
    command: layer.command ?? null,
    comment: layer.comment ?? null,
    author: layer.author ?? null,
    blob_digest: layer.digest,
    created_datetime: layer.createdMs === undefined ? null : httpDate(layer.createdMs),
  };
}

export const manifestRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: manifestPath,
    summary: "Shows a manifest and the layers of an image",
    needs: { repository: "read", images: true },
    answers: {
      200: () =>
        z.strictObject({
          digest: z.string(),
          is_manifest_list: z.boolean(),
          manifest_data: z.string(),
          config_media_type: z.string().nullable(),
          layers: z.array(layerSchema()).nullable(),
        }),
    },
    async handle({ app, repository, params }) {
      const manifest = await getManifestView(app, repository, parseDigest(params.manifestref ?? ""));
      return json(200, {
        digest: manifest.digest,
        is_manifest_list: manifest.isList,
        manifest_data: manifest.text,
        config_media_type: manifest.configMediaType ?? null,
        layers: manifest.layers?.map(layerView) ?? null,
      });
    },
  }),
  route({
    method: "GET",
    path: `${manifestPath}/pull_statistics`,
    summary: "Tells how often a manifest was pulled",
    needs: { repository: "read", images: true },
    answers: {
      200: () =>
        z.strictObject({
          manifest_digest: z.string(),
          manifest_pull_count: z.int(),
          last_manifest_pull_date: isoDateSchema().nullable(),
        }),
    },
    async handle({ app, repository, params }) {
      const digest = parseDigest(params.manifestref ?? "");
      const pulls = await getManifestPulls(app.db, repository, digest, app.clock.nowMs());
      return json(200, {
        manifest_digest: digest,
        manifest_pull_count: pulls.count,
        last_manifest_pull_date: lastDate(pulls),
      });
    },
  }),
];
