/** What the server offers: its models, and what a request can set. */

import { ApiError, models, settings } from "./api.js";
import { recall } from "./store.js";

export class Catalogue {
  models = [];
  settings = [];
  error = null; // an ApiError: why there is no list of models

  /** Load the list of models again. */
  async refresh() {
    try {
      this.models = await models();
      this.error = null;
    } catch (error) {
      this.error = error instanceof ApiError ? error : new ApiError("broken", String(error));
    }
  }

  /** Load what a request can set; without it, the usual settings remain. */
  async describe() {
    this.settings = await settings().catch(() => []);
  }

  find(id) {
    return this.models.find((model) => model.id === id);
  }

  /** The id of the model that was picked last, or of the default; empty without models. */
  get usual() {
    const known = this.find(recall("model")) ?? this.models.find((model) => model.isDefault);
    return (known ?? this.models[0])?.id ?? "";
  }
}
