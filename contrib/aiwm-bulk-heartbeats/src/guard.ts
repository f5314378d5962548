// Who may speak for agents.
import {
  ForbiddenException,
  Inject,
  Injectable,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { isObservable, lastValueFrom } from 'rxjs';

/** Stands for the controller's JwtAuthGuard, which the module is given. */
export const CONTROLLER_GUARD = Symbol('CONTROLLER_GUARD');

export const SERVICE_TYPE = 'service';
export const SERVICE_ROLE = 'service.heartbeats';

/**
 * The controller's own guard decides whether a token is genuine; this one, whether it is the
 * gateway's. Type and role are both asked for: an agent's roles come from its settings, which
 * whoever may edit agents chooses, but the type of its token is always "agent".
 */
@Injectable()
export class ServiceTokenGuard implements CanActivate {
  constructor(@Inject(CONTROLLER_GUARD) private readonly controllerGuard: CanActivate) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const verdict = this.controllerGuard.canActivate(context);
    const genuine = isObservable(verdict) ? await lastValueFrom(verdict) : await verdict;
    if (!genuine) return false;
    if (!maySpeakForAgents(context.switchToHttp().getRequest<{ user?: unknown }>().user))
      throw new ForbiddenException('You do not have permission to send heartbeats for agents.');
    return true;
  }
}

function maySpeakForAgents(user: unknown): boolean {
  const { type, roles } = (user ?? {}) as { type?: unknown; roles?: unknown };
  return type === SERVICE_TYPE && Array.isArray(roles) && roles.includes(SERVICE_ROLE);
}
