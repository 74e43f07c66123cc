/** Labels of a manifest. Source: quay-api reference, section 9. */

import { z } from "zod";
import { addLabel, deleteLabel, getLabel, listLabels } from "../../domain/label/label.ts";
import type { Label } from "../../domain/label/queries.ts";
import { parseDigest } from "../../oci/digest.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";

const listPath = "/repository/{repository}/manifest/{manifestref}/labels";
const onePath = `${listPath}/{labelid}`;

const labelSchema = () =>
  z.strictObject({
    id: z.string(),
    key: z.string(),
    value: z.string(),
    source_type: z.enum(["manifest", "api", "internal"]),
    media_type: z.enum(["text/plain", "application/json"]),
  });

function view(label: Label) {
  return {
    id: label.uuid,
    key: label.key,
    value: label.value,
    source_type: label.sourceType,
    media_type: label.mediaType,
  };
}

const digestOf = (params: Readonly<Record<string, string>>) => parseDigest(params.manifestref ?? "");

export const labelRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: listPath,
    summary: "Lists the labels of a manifest",
    needs: { repository: "read", images: true },
    query: () => z.object({ filter: z.string().default("") }),
    answers: { 200: () => z.strictObject({ labels: z.array(labelSchema()) }) },
    async handle({ app, repository, params, query }) {
      const labels = await listLabels(app, repository, digestOf(params), query.filter);
      return json(200, { labels: labels.map(view) });
    },
  }),
  route({
    method: "POST",
    path: listPath,
    summary: "Adds a label to a manifest",
    needs: { repository: "write", normalState: true, images: true },
    body: () => z.object({ key: z.string(), value: z.string(), media_type: z.string().nullish() }),
    answers: { 201: () => z.strictObject({ label: labelSchema() }) },
    async handle({ app, caller, repository, params, body, baseUrl, origin }) {
      const digest = digestOf(params);
      const { key, value, media_type: mediaType } = body;
      const label = await addLabel(app, caller, { repository, digest, key, value, mediaType, request: origin() });
      const location = `${baseUrl}/api/v1/repository/${repository.path}/manifest/${digest}/labels/${label.uuid}`;
      return json(201, { label: view(label) }, { Location: location });
    },
  }),
  route({
    method: "GET",
    path: onePath,
    summary: "Shows a label of a manifest",
    needs: { repository: "read", images: true },
    answers: { 200: labelSchema },
    async handle({ app, repository, params }) {
      return json(200, view(await getLabel(app, repository, digestOf(params), params.labelid ?? "")));
    },
  }),
  route({
    method: "DELETE",
    path: onePath,
    summary: "Deletes a label that was added through the API",
    needs: { repository: "write", normalState: true, images: true },
    answers: { 204: null },
    async handle({ app, caller, repository, params, origin }) {
      const target = { repository, digest: digestOf(params), uuid: params.labelid ?? "", request: origin() };
      await deleteLabel(app, caller, target);
      return noContent();
    },
  }),
];
