import {
  Module,
  type CanActivate,
  type DynamicModule,
  type ModuleMetadata,
  type Type,
} from '@nestjs/common';
import { BulkHeartbeatsController } from './controller';
import { CONTROLLER_GUARD, ServiceTokenGuard } from './guard';
import { BulkHeartbeatsService } from './service';

export interface BulkHeartbeatsOptions {
  /** The controller's JwtAuthGuard. */
  guard: Type<CanActivate>;
  /** What provides the Agent model, and whatever the guard needs: [AgentModule]. */
  imports: NonNullable<ModuleMetadata['imports']>;
}

@Module({})
export class BulkHeartbeatsModule {
  static register({ guard, imports }: BulkHeartbeatsOptions): DynamicModule {
    return {
      module: BulkHeartbeatsModule,
      imports,
      controllers: [BulkHeartbeatsController],
      providers: [
        BulkHeartbeatsService,
        ServiceTokenGuard,
        { provide: CONTROLLER_GUARD, useClass: guard },
      ],
    };
  }
}
